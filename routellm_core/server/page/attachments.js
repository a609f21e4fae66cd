// Images and files that go out with the next message: chosen, pasted or dropped.

import { byId, button, element } from "./dom.js";

const LARGEST = 20 * 2 ** 20; // bytes
const TEXT = /^text\/|json|xml|yaml|javascript|csv|x-sh|toml/;
const TEXT_NAME = /\.(txt|md|csv|tsv|json|jsonl|ya?ml|toml|xml|html?|css|m?[jt]sx?|py|rb|rs|go|java|kt|c|h|cc|cpp|cs|php|sh|sql|log|tex|ini|cfg)$/i;

export class Attachments {
  files = [];
  #say;

  /** @param {Function} say announces what could not be taken. */
  constructor(say) {
    this.#say = say;
    const chooser = byId("files");
    byId("attach").addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => {
      this.add(chooser.files);
      chooser.value = "";
    });
    byId("prompt").addEventListener("paste", (event) => {
      if (event.clipboardData.files.length === 0) return;
      event.preventDefault();
      this.add(event.clipboardData.files);
    });
    const stage = document.querySelector(".stage");
    stage.addEventListener("dragover", (event) => event.preventDefault());
    stage.addEventListener("drop", (event) => {
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
  }

  async add(files) {
    for (const file of files) {
      try {
        this.files.push(await taken(file));
      } catch (error) {
        this.#say(error.message);
      }
    }
    this.draw();
    byId("prompt").focus();
  }

  /** Take the files, so that the next message begins without any. */
  take() {
    const { files } = this;
    this.set([]);
    return files;
  }

  set(files) {
    this.files = [...files];
    this.draw();
  }

  draw() {
    byId("attached").replaceChildren(
      ...this.files.map((file) => {
        const remove = button("×", () => this.set(this.files.filter((other) => other !== file)));
        remove.setAttribute("aria-label", `Remove ${file.name}`);
        return element("li", {}, ...preview(file), remove);
      }),
    );
  }
}

/** What shows a file: the image itself, or its name. */
export function preview({ name, type, url }) {
  if (!type.startsWith("image/")) return [element("span", { class: "file-name" }, name)];
  return [element("img", { src: url, alt: name })];
}

async function taken(file) {
  if (file.size > LARGEST) throw new Error(`${file.name} is larger than 20 MB.`);
  const { name, type } = file;
  if (type.startsWith("image/") && type !== "image/svg+xml") return { name, type, url: await addressOf(file) };
  if (TEXT.test(type) || TEXT_NAME.test(name)) return { name, type: "text/plain", text: await file.text() };
  if (type === "application/pdf") return { name, type, url: await addressOf(file) };
  throw new Error(`${name} is no image, text or PDF.`);
}

function addressOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}
