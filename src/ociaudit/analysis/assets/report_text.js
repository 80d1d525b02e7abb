/* Text and elements. All text reaches the page through `make`: as text, never as markup. */
"use strict";

// Control characters, marks of direction, zero widths, private and unassigned code points, lone surrogates.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]/u;
const EACH_HIDDEN = new RegExp(HIDDEN.source, "gu");

function nameHidden(character) {
  return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** Return text in which every invisible or direction-changing character is replaced by its number. */
function showHidden(text) {
  return HIDDEN.test(text) ? text.replace(EACH_HIDDEN, nameHidden) : text;
}

/** Return a new element; `text` may be hostile. */
function make(tag, className = "", text = null, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = showHidden(String(text));
  element.append(...children);
  return element;
}

// Dates with their time, and names of regions. None is longer than a phone is wide.
const WHOLE = /\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:–\d\d:\d\d)?Z?)?(?![\w-])|\b[a-z]{2}(?:-[a-z]{2,12}){1,2}-\d{1,2}\b/g;

/** Replace the content of an element by text, which may be hostile, in which no line breaks inside a date or a region. */
function fillWhole(element, text) {
  const shown = showHidden(String(text));
  const parts = [];
  let end = 0;
  for (const match of shown.matchAll(WHOLE)) {
    parts.push(shown.slice(end, match.index), make("span", "whole", match[0]));
    end = match.index + match[0].length;
  }
  element.replaceChildren(...parts, shown.slice(end));
}

/** Return a new element with such text. */
function makeWhole(tag, className, text) {
  const element = make(tag, className);
  fillWhole(element, text);
  return element;
}

function makeButton(className, text, onClick) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", onClick);
  return button;
}

const NUMBER = new Intl.NumberFormat("en-US");
const showNumber = (value) => NUMBER.format(value);
const plural = (count, one, many) => `${showNumber(count)} ${count === 1 ? one : many}`;

/** Format milliseconds since 1970 as UTC, for example 2026-11-19 14:02:15. */
function showTime(milliseconds, length = 19) {
  if (milliseconds === null) return "no time";
  const moment = new Date(milliseconds);
  return Number.isNaN(moment.getTime()) ? "no time" : moment.toISOString().slice(0, length).replace("T", " ");
}

/** Format a span as briefly as possible: the same day is written once, an equal end is omitted. */
function showSpan(first, last, length = 16) {
  const from = showTime(first, length);
  const to = showTime(last, length);
  if (from === to) return from;
  if (from.slice(0, 10) === to.slice(0, 10)) return `${from}–${to.slice(11)}`;
  return `${from.slice(0, 10)} – ${to.slice(0, 10)}`;
}

/** Format a duration in its largest whole unit, for example 15 minutes. */
function showDuration(seconds) {
  const units = [[604800, "week"], [86400, "day"], [3600, "hour"], [60, "minute"]];
  const [size, word] = units.find(([each]) => seconds % each === 0) || [1, "second"];
  return plural(seconds / size, word, `${word}s`);
}

/** Shorten an OCID to its kind and its end, which identify it well enough; return other text unchanged. */
function shortenId(text) {
  const parts = /^ocid1\.([a-z]+)\..*(.{8})$/s.exec(text);
  return parts ? `${parts[1]} …${parts[2]}` : text;
}

/** Remove the prefix that all of Oracle's event types share. */
const shortenType = (type) => type.replace(/^com\.oraclecloud\./, "");

const OUTCOMES = ["success", "failure", "unknown"];

/** Fill a `pre` with indented JSON. It is laid out token by token, so numbers and texts stay exactly as written. */
function showJson(pre, raw) {
  const tokens = raw.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs) || [];
  let depth = 0;
  const newLine = () => pre.append("\n" + "  ".repeat(Math.min(depth, 40)));
  tokens.forEach((token, index) => {
    if (token === "{" || token === "[") {
      pre.append(token);
      depth += 1;
      if (tokens[index + 1] !== "}" && tokens[index + 1] !== "]") newLine();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      if (tokens[index - 1] !== "{" && tokens[index - 1] !== "[") newLine();
      pre.append(token);
    } else if (token === ",") {
      pre.append(",");
      newLine();
    } else if (token === ":") {
      pre.append(": ");
    } else {
      pre.append(make("span", token[0] !== '"' ? "value" : tokens[index + 1] === ":" ? "key" : "text", token));
    }
  });
}
