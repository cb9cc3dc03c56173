"""One client of the real Python SDK, told what to do as `driver.mjs` is.

    python driver.py http URL
    python driver.py stdio PROGRAM ARGUMENT...

With DRIVER_OAUTH=1 it gets a token by OAuth; DRIVER_CLIENT names the document about the client.
"""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from urllib.parse import parse_qsl, urljoin, urlsplit

import mcp

try:
    from mcp import Client  # 2.x
except ImportError:
    Client = None

TOKEN = os.environ.get("CEDARGATE_AGENT_TOKEN")
HEADERS = json.loads(os.environ.get("DRIVER_HEADERS", "{}"))
if TOKEN:
    HEADERS["Authorization"] = f"Bearer {TOKEN}"


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def plain(result):
    dump = getattr(result, "model_dump", None)
    return dump(mode="json", by_alias=True, exclude_none=True) if dump else result


def streams(kind, target):
    if kind == "stdio":
        from mcp.client.stdio import StdioServerParameters, stdio_client

        return stdio_client(StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ)))
    from mcp.client.streamable_http import streamable_http_client

    try:
        import httpx2 as http  # of 2.x
    except ImportError:
        import httpx as http
    auth = oauth(target[0], http) if os.environ.get("DRIVER_OAUTH") else None
    return streamable_http_client(
        target[0], http_client=http.AsyncClient(headers=HEADERS, timeout=300, trust_env=False, auth=auth))


CALLBACK = "http://127.0.0.1:9/callback"
KEPT = {"asked": [], "tokens": None, "client": None}


class Storage:
    async def get_tokens(self):
        return KEPT["tokens"]

    async def set_tokens(self, tokens):
        KEPT["tokens"] = tokens

    async def get_client_info(self):
        return KEPT["client"]

    async def set_client_info(self, client):
        KEPT["client"] = client


def oauth(url, http):
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import OAuthClientMetadata

    async def visit(url):
        """What a person's browser does, who agrees to everything."""
        KEPT["asked"].append(dict(parse_qsl(urlsplit(url).query)))
        async with http.AsyncClient(trust_env=False) as browser:
            for _ in range(10):
                response = await browser.get(url)
                url = urljoin(url, response.headers["location"])
                if url.startswith(CALLBACK):
                    KEPT["returned"] = dict(parse_qsl(urlsplit(url).query))
                    return
        raise RuntimeError(f"it goes round and round: {url}")

    async def returned():
        back = KEPT["returned"]
        try:
            from mcp.shared.auth import AuthorizationCodeResult  # 2.x
        except ImportError:
            return back["code"], back.get("state")
        return AuthorizationCodeResult(code=back["code"], state=back.get("state"), iss=back.get("iss"))

    metadata = OAuthClientMetadata(
        client_name="driver-python",
        redirect_uris=[CALLBACK],
        grant_types=["authorization_code"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    document = os.environ.get("DRIVER_CLIENT")
    return OAuthClientProvider(url, metadata, Storage(), visit, returned, client_metadata_url=document)


async def connect(stack, kind, target):
    made = streams(kind, target)
    if Client is not None:
        client = await stack.enter_async_context(Client(made))
        return client, getattr(client, "protocol_version", None)
    opened = await stack.enter_async_context(made)
    session = await stack.enter_async_context(mcp.ClientSession(opened[0], opened[1]))
    started = await session.initialize()
    return session, started.protocolVersion


def leaves(error):
    """What is at the bottom of groups of errors: the rest was cancelled because of it."""
    inner = getattr(error, "exceptions", None)
    return [leaf for each in inner for leaf in leaves(each)] if inner else [error]


async def main(connected):
    kind, *target = sys.argv[1:]
    async with AsyncExitStack() as stack:
        client, version = await connect(stack, kind, target)
        connected.append(version)
        say({"id": 0, "result": {"version": version}})
        underway = {}
        # Under which number 1.x asks.
        numbers = {}

        async def progress(told, done, total=None, message=None):
            say({"id": told["id"], "progress": {"progress": done, "total": total, "message": message}})

        async def act(told):
            do = told["do"]
            given = told.get("arguments", {})
            if do == "list":
                return await client.list_tools()
            if do == "resources":
                return await client.list_resources()
            if do == "prompts":
                return await client.list_prompts()
            if do == "read":
                return await client.read_resource(told["uri"])
            if do == "prompt":
                return await client.get_prompt(told["name"], given)
            if do == "call":
                options = {}
                if told.get("progress"):
                    options["progress_callback"] = lambda *said: progress(told, *said)
                numbers[told["id"]] = getattr(client, "_request_id", None)
                return await client.call_tool(told["name"], given, **options)
            if do == "oauth":
                return {"asked": KEPT["asked"], "scope": KEPT["tokens"].scope, "client": KEPT["client"].client_id}
            if do == "cancel":
                if Client is None:
                    # 1.x gives up by itself, and leaves it to whoever uses it to say so.
                    cancelled = mcp.types.CancelledNotification(
                        method="notifications/cancelled",
                        params=mcp.types.CancelledNotificationParams(requestId=numbers[told["of"]]),
                    )
                    await client.send_notification(mcp.types.ClientNotification(cancelled))
                underway[told["of"]].cancel()
                return None
            raise ValueError(do)

        async def answer(told):
            try:
                say({"id": told["id"], "result": plain(await act(told))})
            except asyncio.CancelledError:
                say({"id": told["id"], "error": {"message": "cancelled by the driver"}})
            except Exception as error:
                inner = getattr(error, "error", error)
                say({"id": told["id"], "error": {
                    "code": getattr(inner, "code", None),
                    "message": getattr(inner, "message", None) or str(error),
                    "data": getattr(inner, "data", None),
                }})
            finally:
                underway.pop(told["id"], None)

        reader = asyncio.StreamReader(limit=1 << 24)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            told = json.loads(line)
            underway[told["id"]] = asyncio.ensure_future(answer(told))
        for task in list(underway.values()):
            task.cancel()


CONNECTED = []
try:
    asyncio.run(main(CONNECTED))
except BaseException as error:
    if not CONNECTED:
        why = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves(error))
        say({"id": 0, "error": {"message": why}})
    raise
