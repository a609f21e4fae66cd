// How figures are written. The page is in English, so are its numbers.

const whole = new Intl.NumberFormat("en");
const small = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

export const count = (number) => whole.format(number);
export const percent = (share) => {
  const points = share * 100;
  return `${points > 0 && points < 1 ? small.format(points) : whole.format(Math.round(points))} %`;
};
export const score = (value) => value.toFixed(3);

/** Dollars with enough digits to tell one answer from another. */
export function dollars(amount) {
  const size = Math.abs(amount);
  const sign = amount < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size >= 1) return `${sign}$${size.toFixed(2)}`;
  return `${sign}$${new Intl.NumberFormat("en", { minimumSignificantDigits: 2, maximumSignificantDigits: size >= 0.01 ? 3 : 2 }).format(size)}`;
}

/** Seconds as a person counts them down. */
export const seconds = (number) => (number === 1 ? "1 second" : `${whole.format(number)} seconds`);
