// One client of a real SDK, which does what it is told on standard input, a JSON object a
// line, and answers with one: {"id", "result"} or {"id", "error": {code, message, data}}.
//
//   node driver.mjs v1|v2 http URL        CEDARGATE_AGENT_TOKEN is the bearer token,
//                                         DRIVER_HEADERS is a JSON object of more headers
//   node driver.mjs v1|v2 stdio PROGRAM ARGUMENT...
//
// {"id", "do": "list" | "call" | "read" | "prompt" | "resources" | "prompts" | "cancel" …}

import { createInterface } from "node:readline";

const [version, kind, ...target] = process.argv.slice(2);
const token = process.env.CEDARGATE_AGENT_TOKEN;
const headers = {
  ...JSON.parse(process.env.DRIVER_HEADERS ?? "{}"),
  ...(token ? { Authorization: `Bearer ${token}` } : {}),
};

const sdk = await (version === "v1" ? v1() : v2());
const client = new sdk.Client(
  { name: `driver-${version}`, version: "1" },
  {
    capabilities: { sampling: {}, elicitation: {} },
    ...(version === "v2" ? { versionNegotiation: { mode: "auto" } } : {}),
  },
);
const transport =
  kind === "stdio"
    ? new sdk.Stdio({ command: target[0], args: target.slice(1), env: { ...process.env }, stderr: "inherit" })
    : new sdk.Http(new URL(target[0]), {
        requestInit: { headers },
      });

// Over stdio, older clients keep the version to themselves.
let negotiated;
if (version === "v1" && kind === "stdio") transport.setProtocolVersion = (told) => (negotiated = told);

async function v1() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport: Http } = await import(
    "@modelcontextprotocol/sdk/client/streamableHttp.js"
  );
  const { StdioClientTransport: Stdio } = await import("@modelcontextprotocol/sdk/client/stdio.js");
  const { ToolListChangedNotificationSchema } = await import("@modelcontextprotocol/sdk/types.js");
  return { Client, Http, Stdio, changed: ToolListChangedNotificationSchema };
}

async function v2() {
  const { Client, StreamableHTTPClientTransport: Http } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport: Stdio } = await import("@modelcontextprotocol/client/stdio");
  return { Client, Http, Stdio, changed: "notifications/tools/list_changed" };
}

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const underway = new Map();

const actions = {
  list: () => client.listTools(),
  resources: () => client.listResources(),
  prompts: () => client.listPrompts(),
  read: ({ uri }, options) => client.readResource({ uri }, options),
  prompt: ({ name, arguments: given = {} }, options) => client.getPrompt({ name, arguments: given }, options),
  call: ({ id, name, arguments: given = {}, progress }, options) => {
    const params = { name, arguments: given };
    if (progress) {
      options.onprogress = (told) => say({ id, progress: told });
      options.resetTimeoutOnProgress = true;
    }
    return version === "v1"
      ? client.callTool(params, undefined, options)
      : client.callTool(params, options);
  },
  cancel: ({ of }) => underway.get(of)?.abort("cancelled by the driver"),
  close: async () => {
    await client.close();
    process.exit(0);
  },
};

client.setNotificationHandler(sdk.changed, () => say({ notification: "tools/list_changed" }));
try {
  await client.connect(transport);
} catch (error) {
  say({ id: 0, error: { code: error.code, message: String(error.message) } });
  process.exit(1);
}
say({
  id: 0,
  result: {
    server: client.getServerVersion(),
    version: negotiated ?? transport.protocolVersion ?? client.getNegotiatedProtocolVersion?.(),
  },
});

createInterface({ input: process.stdin }).on("line", async (line) => {
  const told = JSON.parse(line);
  const { id } = told;
  const abort = new AbortController();
  underway.set(id, abort);
  try {
    const result = await actions[told.do](told, { signal: abort.signal });
    say({ id, result: result ?? null });
  } catch (error) {
    say({ id, error: { code: error.code, message: String(error.message), data: error.data } });
  } finally {
    underway.delete(id);
  }
}).on("close", async () => {
  await client.close();
  process.exit(0);
});
