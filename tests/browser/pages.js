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
  ["overview", "/overview"],
  ["overview-week", "/overview?range=7d", { act: (page) => page.click("#numbers summary") }],
  ["services", "/services"],
  ["services-search", "/services?q=restart"],
  ["service", "/services/coolify"],
  ["service-command", "/services/coolify?q=deploy", { act: (page) => page.click(".commands summary >> nth=0") }],
  ["policies", "/policies"],
  ["policies-confirm", `/policies/${system.policySet}`, { act: (page) => page.click("summary:has-text('Activate')") }],
  ["policies-schema", "/policies?file=schema.cedarschema"],
  ["policy-set", `/policies/${system.policySet}`],
  ["policy-difference", `/policies/difference?from=${system.policySet}`],
  ["playground", "/playground?command=coolify/deploy-application"],
  ["playground-refused", "/playground", { act: (page) => decide(page, "deploy-bot", "coolify/list-servers", "") }],
  ["playground-permitted", "/playground", { act: (page) => decide(page, "deploy-bot", "coolify/list-servers", "command:1") }],
  ["playground-hard", "/playground", { act: (page) => decide(page, "sql-dropper", "coolify/delete-server", "", '{"uuid": "srv-7f3a"}') }],
  ["audit", "/audit"],
  ["audit-more", "/audit?kind=refusal&from=2020-01-01T00:00"],
  ["audit-none", `/audit?text=${encodeURIComponent("<b>\u202enothing is called so")}`],
  ["audit-entry", "/audit?kind=refusal", { act: (page) => page.click("table a >> nth=0") }],
  ["verification", "/audit/verification", { act: verify }],
];

async function decide(page, agent, command, grant, args = "{}") {
  await page.fill("#agent", agent);
  await page.fill("#command", command);
  await page.fill("#arguments", args);
  await page.selectOption("#grant", grant);
  await page.keyboard.press("Tab");
  await page.click("button.primary");
  await page.locator("#verdict").waitFor();
}

async function verify(page) {
  await page.click("button:has-text('Verify now')");
  await page.waitForLoadState("load");
  for (let look = 0; look < 100 && (await page.locator(".badge.valid").count()) === 0; look += 1) {
    await page.goto("/audit/verification");
  }
  await page.locator(".badge.valid").first().waitFor();
}

async function newToken(page) {
  await page.fill("#token-label", "<b>\u202elabel");
  await page.click("button:has-text('Create')");
  await page.locator("#secret").waitFor();
}

// By hand, to look at some of them: ONLY=audit.
const shown = PAGES.filter(([name]) => new RegExp(process.env.ONLY ?? "").test(name));

const WIDTHS = [360, 1440];
const SCHEMES = ["light", "dark"];

await withBrowser(async (open) => {
  const found = [];
  for (const colorScheme of SCHEMES) {
    for (const width of WIDTHS) {
      const page = await open({ colorScheme, viewport: { width, height: 900 } });
      const anonymous = await open({ colorScheme, viewport: { width, height: 900 } });
      await logIn(page, system.security);
      for (const [name, path, options = {}] of shown) {
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
  for (const [name, path, options = {}] of shown) {
    if (options.act) continue;
    const answer = await plain.goto(path);
    assert.equal(answer.status(), 200, name);
    assert.ok(await plain.locator("h1").isVisible(), name);
  }
  assert.deepEqual(found, [], "findings");
});
