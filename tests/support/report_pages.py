"""What a person sees of a report in a browser: table columns, colors, contrasts and pixels."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

_CONTRASTS = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const blend = (top, under) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map((part) => top[part] * alpha + under[part] * (1 - alpha));
  };
  const paper = (element) => {
    if (!element) return [255, 255, 255];
    return blend(parse(getComputedStyle(element).backgroundColor), paper(element.parentElement));
  };
  const light = (color) => {
    const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = color.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || !box.width || box.right < 0 || element.disabled) continue;
    if (["SCRIPT", "STYLE", "OPTION", "NOSCRIPT"].includes(element.tagName) || !element.checkVisibility()) continue;
    const under = paper(element);
    const [a, b] = [light(blend(parse(getComputedStyle(element).color), under)), light(under)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.tagName + "." + element.className, element.textContent.slice(0, 30)]);
  }
  return found;
}"""
_COLORS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = {};
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] < 255) continue;
    const key = data[at] + "," + data[at + 1] + "," + data[at + 2];
    seen[key] = (seen[key] || 0) + 1;
  }
  return seen;
}"""


def read_contrasts(page: Page) -> list[tuple[float, str, str]]:
    """Return (contrast, element, text) of every visible element that contains text."""
    found: list[list[Any]] = page.evaluate(_CONTRASTS)
    return [(ratio, element, text) for ratio, element, text in found]


def count_colors(page: Page, selector: str) -> dict[str, int]:
    """Return the number of pixels of each opaque color in a canvas; colors are `r,g,b`."""
    colors: dict[str, int] = page.locator(f"{selector} canvas").first.evaluate(_COLORS)
    return colors


def read_variable(page: Page, name: str) -> str:
    """Return a color of the page's palette as `r,g,b`."""
    color: str = page.evaluate(
        """(name) => {
          const probe = document.createElement("i");
          probe.style.color = `var(--${name})`;
          document.body.append(probe);
          const color = getComputedStyle(probe).color;
          probe.remove();
          return color.match(/\\d+/g).slice(0, 3).join(",");
        }""",
        name,
    )
    return color


def read_column(page: Page, table: str, title: str) -> list[str]:
    """Return the texts of a table column, from top to bottom of the page shown."""
    return page.locator(f'{table} tbody td[data-label="{title}"]').all_inner_texts()


def is_on_first_screen(page: Page, text: str) -> bool:
    """Return whether a text is visible without scrolling."""
    page.evaluate("scrollTo(0, 0)")
    size = page.viewport_size
    box = page.get_by_text(text).first.bounding_box()
    return box is not None and size is not None and box["y"] + box["height"] <= size["height"]
