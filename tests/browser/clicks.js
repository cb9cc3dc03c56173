// The story that `cedargate demo` tells, by clicks: an agent is registered, refused, heard
// of, approved, permitted, on record; then what it may do is taken back, and it is stopped.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { eventually, execute, logIn, picture, step, system, withBrowser } from "./browser.js";

const COMMAND = "/mcp-coolify servers list";

/// What a device with this secret shows now (RFC 6238).
function code(secret) {
  const bits = [...secret.replaceAll(" ", "")]
    .map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0"))
    .join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const hash = createHmac("sha1", key).update(counter).digest();
  const at = hash.at(-1) & 15;
  return String((hash.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

await withBrowser(async (open) => {
  step("the admin logs in and registers an agent that may use GitHub, and nothing else");
  const admin = await open({ refused: [401, 404] });
  await admin.goto("/login");
  await admin.fill("#token", "cgu_nobody-holds-this");
  await admin.click("text=Log in >> nth=-1");
  await admin.locator("[role=alert]", { hasText: "No active user holds this token" }).waitFor();
  await logIn(admin, system.admin);
  await admin.click("nav.places >> text=Agents");
  await admin.click("text=New agent");
  await admin.fill("#name", "story-agent");
  await admin.fill("#services", "github");
  await admin.click("button:has-text('Register')");
  await admin.locator(".notice", { hasText: "registered" }).waitFor();
  assert.equal(await admin.locator("h1").textContent(), "story-agent");
  const agentPage = new URL(admin.url()).pathname;
  const agent = agentPage.split("/").pop();

  step("the admin gives it a credential, which is shown once");
  await admin.fill("#token-label", "story <b>");
  await admin.click("button:has-text('Create')");
  const secret = await admin.locator("#secret").textContent();
  assert.match(secret, /^cgt_/);
  await admin.goto(agentPage);
  assert.ok(!(await admin.content()).includes(secret), "it is shown once");
  assert.equal(await admin.locator("#tokens tbody th").textContent(), "story <b>");

  step("an approver watches the inbox");
  const approver = await open({ refused: [403, 409] });
  await logIn(approver, system.approver);
  await approver.locator(".live.on").waitFor();

  step("the agent asks, and is refused; the watcher hears of it without a reload");
  const refused = await execute(agent, COMMAND, "to see <i>what</i> runs where");
  assert.equal(refused.status, 403);
  assert.equal(refused.body.error.code, -32004);
  const id = refused.body.error.data.request_id;
  await approver.locator("#inbox-new:not([hidden])").click();
  const ask = approver.locator(`#${id}`);
  await ask.waitFor();
  assert.match(await ask.locator(".why").textContent(), /to see <i>what<\/i> runs where/);
  await picture(approver, "story-inbox", {});

  step("somebody else has the inbox open, too");
  const watcher = await open();
  await logIn(watcher, system.security);
  await watcher.locator(".live.on").waitFor();
  const seen = watcher.locator(".group", { hasText: "story-agent" });
  const below = watcher.locator(".group >> nth=1");
  await seen.locator(".reason").fill("typed before it was decided");
  const place = await below.boundingBox();

  step("the owner is shown it, but may not decide it");
  await admin.goto(`/approvals/${id}`);
  await admin.locator("#decide", { hasText: "you answer for the agent" }).waitFor();

  step("the approver approves this call for an hour, with a reason, in the inbox");
  await ask.locator(".reason").fill("Testing approved");
  await ask.locator("button", { hasText: /^1 h$/ }).click();
  await approver.locator(".notice", { hasText: "Approved" }).waitFor();

  step("the owner's page turns by itself");
  await admin.locator("#decide", { hasText: "The grant" }).waitFor();

  step("in the other inbox it says so, and nothing has moved");
  await watcher.locator(".group.gone", { hasText: "Decided or withdrawn in the meantime" }).waitFor();
  assert.ok(await seen.locator("button", { hasText: /^1 h$/ }).isDisabled());
  assert.ok(Math.abs((await below.boundingBox()).y - place.y) < 1, "nothing moves under a hand");
  await watcher.context().close();

  step("the same command goes through");
  const permitted = await execute(agent, COMMAND);
  assert.equal(permitted.status, 200, JSON.stringify(permitted.body));
  assert.ok(permitted.body.result.data.servers.length > 0);

  step("all of it is on record");
  await approver.click(".tabs >> text=Decided");
  await approver.locator("tr", { hasText: "story-agent" }).locator("a.command").click();
  await eventually("the use is in the timeline", async () => {
    await approver.reload();
    return (await approver.locator(".timeline").textContent()).includes("ran coolify/list-servers");
  });
  const timeline = await approver.locator(".timeline").textContent();
  assert.match(timeline, /story-agent asked/);
  assert.match(timeline, /approved this call for 1 h/);
  assert.match(timeline, /Testing approved/);
  await picture(approver, "story-request");

  step("the grant is taken back, and the command refused again");
  await approver.click("button:has-text('Revoke now')");
  await approver.locator(".notice", { hasText: "revoked" }).waitFor();
  assert.equal((await execute(agent, COMMAND)).status, 403);

  step("the new request is rejected");
  await approver.click("nav.places >> text=Approvals");
  await approver.locator(".group", { hasText: "story-agent" }).locator("button:has-text('Reject')").click();
  await approver.locator(".notice", { hasText: "Rejected" }).waitFor();

  step("the admin stops the agent with one click and a yes");
  await admin.goto(agentPage);
  await admin.click("summary:has-text('Suspend')");
  await admin.click("button:has-text('Suspend story-agent')");
  await admin.locator(".notice", { hasText: "Suspended" }).waitFor();
  await eventually("the gateway knows", async () => {
    const { body } = await execute(agent, COMMAND);
    return JSON.stringify(body).includes("suspended");
  });
  await admin.click("button:has-text('Resume')");
  await admin.locator(".badge", { hasText: "active" }).waitFor();

  step("what destroys asks back, and needs two people");
  const destroy = approver.locator(`#${system.requests.destroy}`);
  await approver.goto("/approvals");
  await destroy.locator("summary").click();
  await destroy.locator("button", { hasText: "within 15 min" }).click();
  await approver.waitForURL("**/step-up?*");
  await approver.click("button:has-text('Enrol a device')");
  const shown = await approver.locator("p", { hasText: /^Secret/ }).locator("code").textContent();
  await picture(approver, "story-enrol");
  await approver.fill("#code", code(shown));
  await approver.click("button:has-text('Enrol')");
  await approver.locator(".codes").waitFor();
  await approver.goto("/approvals");
  await destroy.locator("summary").click();
  await destroy.locator("button", { hasText: "within 15 min" }).click();
  await approver.locator(".notice", { hasText: "One more person" }).waitFor();
  assert.match(await destroy.textContent(), /yours is given/);

  step("logging out ends the session");
  await approver.click("button:has-text('Log out')");
  await approver.waitForURL("**/login");
  await approver.goto("/approvals");
  await approver.waitForURL("**/login?*");
});
