// Every page, at the widths of a telephone and a screen, light and dark: axe-core finds
// nothing, nothing is wider than the window, hostile text is text, and it works without a
// script. A new page is one more line here.

import assert from "node:assert/strict";
import { findings, logIn, picture, step, system, withBrowser } from "./browser.js";

const PAGES = [
  ["login", "/login", { anonymous: true }],
  ["inbox", "/approvals"],
  ["inbox-keys", "/approvals", { act: (page) => page.click("#keys") }],
  ["inbox-confirm", "/approvals", { act: (page) => page.click("summary:has-text('Approve')") }],
  ["inbox-none", "/approvals?q=nothing-is-called-so"],
  ["decided", "/approvals?view=decided"],
  ["request", `/approvals/${system.requests.write}`],
  ["request-destroy", `/approvals/${system.requests.destroy}`],
  ["request-approved", `/approvals/${system.requests.approved}`],
  ["request-rejected", `/approvals/${system.requests.rejected}`],
  ["request-hostile", `/approvals/${system.requests.hostile}`],
  ["agents", "/agents"],
  ["agent", `/agents/${system.agents.deployer}`],
  ["agent-suspend", `/agents/${system.agents.deployer}`, { act: (page) => page.click("summary:has-text('Suspend')") }],
  ["agent-secret", `/agents/${system.agents.hostile}`, { act: newToken }],
  ["agent-hostile", `/agents/${system.agents.hostile}`],
  ["agent-new", "/agents/new"],
  ["agent-edit", `/agents/${system.agents.deployer}/edit`],
  ["users", "/users"],
  ["user", "/users/paula"],
  ["user-new", "/users/new"],
  ["me", "/me"],
  ["step-up", "/step-up?next=%2Fapprovals"],
  ["enrol", "/me", { act: (page) => page.click("button:has-text('Enrol a device')") }],
];

async function newToken(page) {
  await page.fill("#token-label", "<b>\u202elabel");
  await page.click("button:has-text('Create')");
  await page.locator("#secret").waitFor();
}

const WIDTHS = [360, 1440];
const SCHEMES = ["light", "dark"];

await withBrowser(async (open) => {
  const found = [];
  for (const colorScheme of SCHEMES) {
    for (const width of WIDTHS) {
      const page = await open({ colorScheme, viewport: { width, height: 900 } });
      const anonymous = await open({ colorScheme, viewport: { width, height: 900 } });
      await logIn(page, system.security);
      for (const [name, path, options = {}] of PAGES) {
        const at = options.anonymous ? anonymous : page;
        const look = `${name}-${width}-${colorScheme}`;
        step(look);
        const answer = await at.goto(path);
        assert.equal(answer.status(), 200, path);
        await at.waitForLoadState("load");
        // Something that one does on it first.
        await options.act?.(at);
        for (const finding of await findings(at)) found.push(`${look}: ${finding}`);
        const wider = await at.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wider > 0) found.push(`${look}: ${wider} pixels wider than the window`);
        const strange = await at.evaluate(() => {
          const odd = [...document.querySelectorAll("main script, main img, main b, main iframe, [onerror], [onclick], [style]")];
          const hidden = /[\u202a-\u202e\u2066-\u2069\u200b\u001b]/u.test(document.body.textContent);
          return odd.map((element) => element.outerHTML.slice(0, 200)).concat(hidden ? ["a text that hides"] : []);
        });
        for (const element of strange) found.push(`${look}: ${element}`);
        await picture(at, look);
      }
      await page.context().close();
      await anonymous.context().close();
    }
  }

  step("without a script");
  const plain = await open({ javaScriptEnabled: false, viewport: { width: 1024, height: 900 } });
  await logIn(plain, system.security);
  for (const [name, path, options = {}] of PAGES) {
    if (options.act) continue;
    const answer = await plain.goto(path);
    assert.equal(answer.status(), 200, name);
    assert.ok(await plain.locator("h1").isVisible(), name);
  }
  assert.deepEqual(found, [], "findings");
});
