// One client of a real SDK, which does what it is told on standard input, a JSON object a
// line, and answers with one: {"id", "result"} or {"id", "error": {code, message, data}}.
//
//   node driver.mjs v1|v2 http URL        CEDARGATE_AGENT_TOKEN is the bearer token,
//                                         DRIVER_HEADERS is a JSON object of more headers;
//                                         DRIVER_OAUTH=1: it gets a token by OAuth instead,
//                                         DRIVER_CLIENT names the document about the client
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

// What a person's browser does, who agrees to everything.
const CALLBACK = "http://127.0.0.1:9/callback";
async function visit(url) {
  const jar = new Map();
  for (let steps = 0; steps < 10; steps += 1) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { redirect: "manual", headers: { cookie } });
    for (const set of response.headers.getSetCookie()) {
      const [, name, value] = set.match(/^([^=]+)=([^;]*)/);
      jar.set(name, value);
    }
    const location = response.headers.get("location");
    if (!location) throw new Error(`${url}: ${response.status}: ${await response.text()}`);
    url = new URL(location, url);
    if (url.href.startsWith(CALLBACK)) return url.searchParams;
  }
  throw new Error(`it goes round and round: ${url}`);
}

const kept = { asked: [] };
const authProvider = process.env.DRIVER_OAUTH && {
  redirectUrl: CALLBACK,
  clientMetadataUrl: process.env.DRIVER_CLIENT,
  clientMetadata: {
    client_name: `driver-${version}`,
    redirect_uris: [CALLBACK],
    grant_types: ["authorization_code"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (discovery) => (kept.discovery = discovery),
  redirectToAuthorization: async (url) => {
    kept.asked.push(Object.fromEntries(url.searchParams));
    kept.returned = await visit(url);
  },
};

// Does something, and once more when a person had to be asked meanwhile.
async function authorized(act) {
  try {
    return await act();
  } catch (error) {
    const { returned } = kept;
    if (!returned) throw error;
    delete kept.returned;
    await transport.finishAuth(version === "v1" ? returned.get("code") : returned);
    return authorized(act);
  }
}

const sdk = await (version === "v1" ? v1() : v2());
let client;
let transport;
function begin() {
  client = new sdk.Client(
    { name: `driver-${version}`, version: "1" },
    {
      capabilities: { sampling: {}, elicitation: {} },
      ...(version === "v2" ? { versionNegotiation: { mode: "auto" } } : {}),
    },
  );
  client.setNotificationHandler(sdk.changed, () => say({ notification: "tools/list_changed" }));
  transport =
    kind === "stdio"
      ? new sdk.Stdio({ command: target[0], args: target.slice(1), env: { ...process.env }, stderr: "inherit" })
      : new sdk.Http(new URL(target[0]), {
          requestInit: { headers },
          ...(authProvider ? { authProvider } : {}),
        });
}
begin();

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
  oauth: () => ({ asked: kept.asked, scope: kept.tokens?.scope, client: kept.client?.client_id }),
  cancel: ({ of }) => underway.get(of)?.abort("cancelled by the driver"),
  close: async () => {
    await client.close();
    process.exit(0);
  },
};

try {
  let again = false;
  await authorized(() => {
    // One that has failed is not begun anew.
    if (again) begin();
    again = true;
    return client.connect(transport);
  });
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
    const result = await authorized(() => actions[told.do](told, { signal: abort.signal }));
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
