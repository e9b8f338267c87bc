// JSON whose integers are too long for JavaScript's numbers: order ids have up to 39 digits.

const STRING_OR_LONG_INTEGER = /"(?:\\.|[^"\\])*"|-?\d{16,}(?![\d.eE])/g;
const MARK = "\u0000integer:";

// Like JSON.parse, but integers of 16 and more digits become BigInt, digit for digit.
export function parseExactly(text) {
  const marked = text.replace(STRING_OR_LONG_INTEGER, (found) =>
    found[0] === '"' ? found : JSON.stringify(MARK + found),
  );
  return JSON.parse(marked, (_, value) =>
    typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value,
  );
}
