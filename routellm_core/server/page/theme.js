// A classic script in the head, so that the chosen colours are there before the first paint.
(() => {
  const KEY = "routellm.theme";
  const ORDER = ["auto", "light", "dark"];
  const root = document.documentElement;

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage can be switched off; the choice then lasts as long as the page
    }
  }

  function apply(theme) {
    root.dataset.theme = ORDER.includes(theme) ? theme : "auto";
  }

  function label(button) {
    const theme = `◐ ${root.dataset.theme[0].toUpperCase()}${root.dataset.theme.slice(1)}`;
    button.textContent = theme;
    button.setAttribute("aria-label", `${theme} colours`);
  }

  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    label(button);
    button.addEventListener("click", () => {
      apply(ORDER[(ORDER.indexOf(root.dataset.theme) + 1) % ORDER.length]);
      label(button);
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // as above
      }
    });
  });
})();
