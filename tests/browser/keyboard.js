// Pages by keyboard alone: where Tab leads, and what has the focus.

import assert from "node:assert/strict";

/// What has the focus, as people hear it.
export const focused = (page) =>
  page.evaluate(() => {
    const at = document.activeElement;
    const label = at.getAttribute("aria-label") ?? (at.labels?.[0] ?? at).textContent;
    return at === document.body ? "nothing" : label.trim().replace(/\s+/g, " ").slice(0, 80);
  });

/// Presses Tab until what has the focus is called so.
export async function tabTo(page, name) {
  const seen = [];
  for (let press = 0; press < 120; press += 1) {
    await page.keyboard.press("Tab");
    const label = await focused(page);
    if (name.test(label)) return label;
    seen.push(label);
  }
  return assert.fail(`${name} cannot be reached by Tab; these can: ${[...new Set(seen)].join(", ")}`);
}

/// Writes into the field that is called so.
export async function type(page, name, text) {
  await tabTo(page, name);
  await page.keyboard.press("Control+A");
  await page.keyboard.type(text);
}

/// Logs in: the field has the focus as soon as the page is there.
export async function logIn(page, token) {
  await page.goto("/login");
  await page.waitForFunction(() => document.activeElement.id === "token");
  await page.keyboard.type(token);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/approvals");
}

/// Where Tab leads from the top of a page: to everything that can be used, in the order in
/// which it is read, each place in sight and marked, and out again at the end; Shift+Tab leads
/// back.
export async function walk(page) {
  await page.evaluate(() => {
    const selector = "a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex='-1'])";
    const usable = (element) =>
      element.checkVisibility({ visibilityProperty: true }) &&
      !element.disabled &&
      element.type !== "hidden" &&
      !(element.type === "radio" && !element.checked);
    window.places = [...document.querySelectorAll(selector)].filter(usable);
    document.activeElement.blur();
    window.getSelection().removeAllRanges();
    window.scrollTo(0, 0);
    // Tab begins where the page does, whatever had the focus.
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
  });
  const total = await page.evaluate(() => window.places.length);
  const visited = [];
  const faults = [];
  for (let press = 0; press < 6 * total + 60; press += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) return null;
      const style = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      const marked =
        element.matches(":focus-visible") &&
        ((style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none");
      const inSight = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
      return { place: window.places.indexOf(element), html: element.outerHTML.slice(0, 160), marked, inSight };
    });
    if (at === null) break;
    if (visited.at(-1) === at.place) continue;
    if (visited.includes(at.place) && at.place >= 0) break;
    if (!at.marked) faults.push(`the focus is not seen on ${at.html}`);
    if (!at.inSight) faults.push(`the focus is out of sight on ${at.html}`);
    if (at.place >= 0) visited.push(at.place);
  }
  const missed = await page.evaluate(
    (visited) => window.places.filter((_, place) => !visited.includes(place)).map((element) => element.outerHTML.slice(0, 160)),
    visited,
  );
  for (const html of missed) faults.push(`Tab does not lead to ${html}`);
  if (visited.some((place, index) => index > 0 && place < visited[index - 1])) faults.push("Tab does not go in the order of reading");
  // And back: from the end no trap holds.
  await page.evaluate(() => window.places.at(-1).focus());
  const before = await focused(page);
  await page.keyboard.press("Shift+Tab");
  if (total > 1 && (await page.evaluate(() => document.activeElement === window.places.at(-1)))) faults.push(`Shift+Tab stays on ${before}`);
  return faults;
}

/// Chooses what begins so in the list that has the focus.
export async function choose(page, name, text) {
  await tabTo(page, name);
  await page.keyboard.type(text);
}
