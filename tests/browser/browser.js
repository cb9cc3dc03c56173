// A real Chromium, and what every page must keep to in it: no error on the console, nothing
// that the Content-Security-Policy stops, nothing asked of another host.
//
// The journey (`tests/journeys/browser.rs`) starts the system and gives its addresses and
// tokens in SYSTEM, as JSON. With SCREENSHOTS, pictures of pages go to that folder.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

export const system = JSON.parse(process.env.SYSTEM);

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/// Runs `story` with a browser; whatever a page complained of fails it in the end.
export async function withBrowser(story) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  const complaints = [];
  try {
    await story((options) => open(browser, complaints, options));
    assert.deepEqual(complaints, [], "complaints of pages");
  } finally {
    await browser.close();
  }
}

/// A page in a browser of its own. `refused` are statuses that this story expects to see.
async function open(browser, complaints, { refused = [], ...options } = {}) {
  const context = await browser.newContext({ baseURL: system.orchestrator, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const complain = (what) => complaints.push(`${what} (${page.url()})`);
  await page.exposeFunction("complainOfPolicy", (what) => complain(`policy: ${what}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      window.complainOfPolicy(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  page.on("pageerror", (error) => complain(`error: ${error}`));
  page.on("dialog", async (dialog) => {
    complain(`dialog: ${dialog.message()}`);
    await dialog.dismiss();
  });
  page.on("console", (message) => {
    const expected = refused.some((status) => message.text().includes(`status of ${status} `));
    if (["error", "warning"].includes(message.type()) && !expected) complain(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const host = new URL(request.url()).origin;
    if (host !== system.orchestrator && !request.url().startsWith("data:")) complain(`request to ${request.url()}`);
  });
  return page;
}

/// Logs in as whoever holds the token.
export async function logIn(page, token, next = "/approvals") {
  await page.goto(`/login?next=${encodeURIComponent(next)}`);
  await page.fill("#token", token);
  await page.click("button[type=submit]");
  await page.waitForURL((url) => url.pathname === next);
}

/// What an agent sends, and the gateway's answer.
export async function execute(agent, command, reason) {
  const response = await fetch(`${system.gateway}/execute`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-agent-id": agent },
    body: JSON.stringify({ command, reason }),
  });
  return { status: response.status, body: await response.json() };
}

/// What axe-core finds on the page as it is.
export async function findings(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`);
}

/// Keeps a picture, where somebody wants pictures.
export async function picture(page, name, options = { fullPage: true }) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: path.join(folder, `${name}.png`), ...options });
}

/// Tells what part of the story is going on: shown when it fails.
export function step(what) {
  console.log(`- ${what}`);
}

/// Waits until something is so.
export async function eventually(what, check) {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`this did not come about: ${what}`);
}
