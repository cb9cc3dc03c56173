// The same story by keyboard alone: no pointer touches a page.

import assert from "node:assert/strict";
import { eventually, execute, step, system, withBrowser } from "./browser.js";
import { focused, logIn, tabTo, type } from "./keyboard.js";

const COMMAND = "/mcp-coolify servers list";

await withBrowser(async (open) => {
  step("logging in");
  const admin = await open();
  await logIn(admin, system.admin);

  step("the first Tab leads past the navigation");
  await admin.keyboard.press("Tab");
  assert.equal(await focused(admin), "Skip to content");

  step("registering an agent");
  await tabTo(admin, /^Agents$/);
  await admin.keyboard.press("Enter");
  await admin.waitForURL("**/agents");
  await tabTo(admin, /^New agent$/);
  await admin.keyboard.press("Enter");
  await admin.waitForURL("**/agents/new");
  await type(admin, /^Name$/, "keyboard-agent");
  await type(admin, /^Standing access$/, "github");
  await admin.keyboard.press("Enter");
  await admin.waitForURL(/agents\/[0-9a-f-]{36}/);
  const agent = new URL(admin.url()).pathname.split("/").pop();

  step("the agent asks");
  const refused = await execute(agent, COMMAND, "by keyboard");
  assert.equal(refused.status, 403);
  const id = refused.body.error.data.request_id;

  step("the approver goes through the inbox by j and k");
  const approver = await open();
  await logIn(approver, system.approver);
  await approver.locator(".live.on").waitFor();
  await approver.keyboard.press("?");
  assert.ok(await approver.locator("dialog").isVisible(), "? tells the keys");
  await approver.keyboard.press("Escape");
  assert.ok(!(await approver.locator("dialog").isVisible()));
  const at = () => approver.evaluate(() => document.activeElement.id);
  // On a busy machine the first may come before the page has taken the dialog away.
  for (let tries = 0; tries < 20 && (await at()) !== id; tries++) await approver.keyboard.press("j");
  assert.equal(await at(), id, "the newest comes first");
  await approver.keyboard.press("j");
  assert.notEqual(await at(), id);
  await approver.keyboard.press("k");
  assert.equal(await at(), id);

  step("Enter opens it; back again");
  await approver.keyboard.press("Enter");
  await approver.waitForURL(`**/approvals/${id}`);
  await tabTo(approver, /^← Approvals$/);
  await approver.keyboard.press("Enter");
  await approver.waitForURL("**/approvals");
  await approver.locator(".live.on").waitFor();

  step("w writes a reason, Escape leaves it, a and Enter approve");
  await approver.keyboard.press("j");
  assert.equal(await at(), id);
  await approver.keyboard.press("w");
  await approver.keyboard.type("a reason with j, k, a and r in it");
  await approver.keyboard.press("Escape");
  assert.equal(await at(), id);
  await approver.keyboard.press("a");
  assert.equal(await focused(approver), "Approve This call for 1 h");
  await approver.keyboard.press("Enter");
  await approver.locator(".notice", { hasText: "Approved" }).waitFor();

  step("the same command goes through");
  assert.equal((await execute(agent, COMMAND)).status, 200);

  step("the grant is taken back on the agent's page");
  await admin.reload();
  await tabTo(admin, /^Revoke coolify\/list-servers/);
  await admin.keyboard.press("Enter");
  await admin.locator(".notice", { hasText: "revoked" }).waitFor();
  assert.equal((await execute(agent, COMMAND)).status, 403);

  step("r and Enter reject what it asks now");
  await eventually("the new request is there", async () => {
    await approver.reload();
    return (await approver.locator(".group", { hasText: "keyboard-agent" }).count()) === 1;
  });
  await approver.keyboard.press("j");
  await approver.keyboard.press("r");
  assert.equal(await focused(approver), "Reject");
  await approver.keyboard.press("Enter");
  await approver.locator(".notice", { hasText: "Rejected" }).waitFor();

  step("the agent is stopped");
  await admin.reload();
  await tabTo(admin, /^Suspend…$/);
  await admin.keyboard.press("Enter");
  await tabTo(admin, /^Suspend keyboard-agent$/);
  await admin.keyboard.press("Escape");
  assert.equal(await focused(admin), "Suspend…", "Escape closes the question");
  await admin.keyboard.press("Enter");
  await tabTo(admin, /^Suspend keyboard-agent$/);
  await admin.keyboard.press("Enter");
  await admin.locator(".notice", { hasText: "Suspended" }).waitFor();

  step("and one logs out");
  await tabTo(admin, /^Log out$/);
  await admin.keyboard.press("Enter");
  await admin.waitForURL("**/login");
});
