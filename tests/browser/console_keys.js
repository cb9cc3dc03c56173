// The operators' pages by keyboard alone: where Tab leads on each, and what one does there.

import assert from "node:assert/strict";
import { step, system, withBrowser } from "./browser.js";
import { choose, focused, logIn, tabTo, type, walk } from "./keyboard.js";

const PAGES = [
  "/approvals",
  "/agents",
  `/agents/${system.agents.deployer}`,
  "/agents/new",
  "/users",
  "/users/paula",
  "/me",
  "/overview",
  "/services",
  "/services/coolify",
  "/policies",
  `/policies/${system.policySet}`,
  "/playground?command=coolify/deploy-application",
  "/audit",
  "/audit/verification",
];

const path = (page) => new URL(page.url()).pathname;

async function open(page, name, where) {
  await tabTo(page, name);
  await page.keyboard.press("Enter");
  await page.waitForURL(where);
}

await withBrowser(async (browser) => {
  const page = await browser({ viewport: { width: 1280, height: 900 }, refused: [404, 422] });
  step("logging in");
  await logIn(page, system.security);

  const found = [];
  for (const where of PAGES) {
    step(`Tab through ${where}`);
    await page.goto(where);
    await page.waitForLoadState("load");
    for (const fault of await walk(page)) found.push(`${where}: ${fault}`);

    await page.goto(where);
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to content", where);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    const inside = await page.evaluate(() => document.getElementById("main").contains(document.activeElement));
    if (!inside) found.push(`${where}: the skip link does not lead into the page`);
  }
  assert.deepEqual(found, []);

  step("overview: another range, and the charts as a table");
  await page.goto("/overview");
  await open(page, /^(7 days|7d|week)/i, /range=7d/);
  await tabTo(page, /^The charts as a table$/);
  await page.keyboard.press("Space");
  assert.ok(await page.locator("#numbers[open]").isVisible());

  step("services: search, open, unfold a command, try it");
  await page.goto("/services");
  await type(page, /^Search services and commands$/, "coolify");
  await page.keyboard.press("Enter");
  await page.waitForURL(/services\?q=coolify/);
  await open(page, /^coolify$/, "**/services/coolify");
  await type(page, /^Search commands$/, "deploy-application");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=deploy-application/);
  await tabTo(page, /^deploy-application/);
  await page.keyboard.press("Enter");
  await open(page, /^Try in the playground: coolify\/deploy-application$/, /playground/);

  step("playground: ask, be told what is wrong, dismiss it, ask again");
  await type(page, /^Agent$/, "deploy-bot");
  await type(page, /^Arguments, as JSON$/, "[");
  await tabTo(page, /^Decide$/);
  await page.keyboard.press("Space");
  await page.locator(".problem").waitFor();
  await page.clock.install();
  await page.reload();
  await page.locator(".problem").waitFor();
  await page.clock.fastForward(60_000);
  assert.ok(await page.locator(".problem").isVisible(), "what went wrong stays");
  await tabTo(page, /^Dismiss$/);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".problem").count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), "main", "and one goes on from there");
  await type(page, /^Arguments, as JSON$/, '{"uuid": "shop-api"}');
  await choose(page, /^With a grant for/, "this c");
  await tabTo(page, /^Decide$/);
  await page.keyboard.press("Enter");
  await page.locator("#verdict").waitFor();

  step("audit: a filter, an entry, the way back, verification");
  await page.goto("/audit");
  await choose(page, /^Kind$/, "refusal");
  await tabTo(page, /^Search$/);
  await page.keyboard.press("Enter");
  await page.waitForURL(/kind=refusal/);
  await tabTo(page, /^More filters$/);
  await page.keyboard.press("Enter");
  await type(page, /^Service$/, "coolify");
  await page.keyboard.press("Enter");
  await page.waitForURL(/service=coolify/);
  await tabTo(page, /^\d{4}-|^\d\d:/);
  await page.keyboard.press("Enter");
  await page.waitForURL(/audit\/\d+/);
  await page.goto("/audit");
  await open(page, /^Verify$/, "**/audit/verification");
  await tabTo(page, /^(Verify now|Look again)$/);
  await page.keyboard.press("Enter");
  await page.locator("main table .badge").first().waitFor();

  step("users: add one, give a token, lock out, let in");
  await page.goto("/users");
  await open(page, /^New user$/, "**/users/new");
  await type(page, /^(Id|Handle)/, "keyboard-user");
  await type(page, /^Roles$/, "viewer");
  await page.keyboard.press("Enter");
  await page.waitForURL(/users\/keyboard-user/);
  await type(page, /^What it is for$/, "by keyboard");
  await page.keyboard.press("Enter");
  await page.locator("#secret").waitFor();
  await tabTo(page, /^Revoke by keyboard$/);
  await page.keyboard.press("Space");
  await page.locator(".notice").waitFor();
  await page.clock.fastForward(13_000);
  assert.equal(await page.locator(".notice").count(), 0, "what went well goes");
  await tabTo(page, /^Deactivate…$/);
  await page.keyboard.press("Enter");
  await tabTo(page, /^Deactivate keyboard-user$/);
  await page.keyboard.press("Enter");
  await page.locator(".badge.inactive").first().waitFor();
  await tabTo(page, /^Activate$/);
  await page.keyboard.press("Enter");
  await page.locator(".badge.inactive").first().waitFor({ state: "detached" });

  step("me: a token of one's own");
  await page.goto("/me");
  await type(page, /^What it is for$/, "my laptop");
  await page.keyboard.press("Enter");
  await page.locator("#secret").waitFor();
  await tabTo(page, /^Revoke my laptop$/);

  step("policies: activate a version with a reason, and roll back");
  await page.goto(`/policies/${system.policySet}`);
  await tabTo(page, /^Activate$/);
  await page.keyboard.press("Enter");
  await type(page, /^Reason$/, "by keyboard");
  await tabTo(page, /^Activate$/);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/policies");
  await tabTo(page, /^Roll back$/);
  await page.keyboard.press("Space");
  await type(page, /^Reason$/, "and back");
  await tabTo(page, /^Roll back$/);
  await page.keyboard.press("Enter");
  await page.locator(".notice", { hasText: "Rolled back" }).waitFor();

  step("a path that is none is a page, with a way back");
  await page.goto("/nowhere");
  assert.ok(await page.locator("h1", { hasText: "Not Found" }).isVisible());
  await tabTo(page, /^Back$/);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/approvals");
  assert.equal(path(page), "/approvals");
});
