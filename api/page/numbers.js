// Numbers as text, as the server writes them (`lib/prunelake/schema/number_texts.py`): one list of
// examples tests both.

/** A value with a real minus sign; halves are rounded to even; a dash without a value. */
export function number(value, decimals = 3) {
  if (value === null || value === undefined) return "–";
  return rounded(value, decimals).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
}

function rounded(value, decimals) {
  const scaled = Math.abs(value) * 10 ** decimals;
  // Only a binary fraction of at most this many bits is exactly half way; toFixed rounds it up.
  const isHalf = Number.isInteger(value * 2 ** (decimals + 1)) && scaled % 1 === 0.5;
  if (!isHalf) return value.toFixed(decimals);
  const below = Math.floor(scaled);
  return ((Math.sign(value) * (below + (below % 2))) / 10 ** decimals).toFixed(decimals);
}

/** A difference with its sign; a difference that rounds to zero has no sign. */
export function signed(value, decimals = 3) {
  const text = number(value, decimals);
  return value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

/** Both ends of an interval; empty where it is unknown. */
export function interval(low, high, decimals = 3) {
  if ([low ?? null, high ?? null].includes(null)) return "";
  return `${number(low, decimals)} to ${number(high, decimals)}`;
}

/** A share in percent, with a no-break space before the sign. */
export function percent(share, decimals = 0) {
  if (share === null || share === undefined) return "–";
  const text = number(100 * share, decimals);
  const isTooSmall = share > 0 && Number(text) === 0;
  return `${isTooSmall ? `under ${number(10 ** -decimals, decimals)}` : text}\u00a0%`;
}

/** A count with a comma at each thousand. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en");
}
