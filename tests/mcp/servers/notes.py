"""A server of MCP on standard output whose one tool is described by a file.

notes.py DESCRIPTION LOG: the description is read anew for each list; what is written is
also kept in the log, byte for byte.
"""

import json
import sys

description, log = sys.argv[1:]
kept = open(log, "ab", buffering=0)


def say(message):
    # Written as no other library would: spaces, escapes, and numbers of a kind of their own.
    text = json.dumps(message, separators=(" , ", " : ")).replace('"@number"', "1.50e0")
    line = text.encode() + b"\n"
    kept.write(line)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "notes", "version": "1"},
        }
    if method == "tools/list":
        with open(description, encoding="utf-8") as file:
            told = file.read()
        schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        return {"tools": [{"name": "note", "description": told, "inputSchema": schema}], "x": "@number"}
    if method == "tools/call":
        text = "noted: " + str(params.get("arguments", {}).get("text"))
        return {"content": [{"type": "text", "text": text}], "unheard of": ["@number", "\u2028"]}
    return {} if method == "ping" else None


for line in sys.stdin.buffer:
    asked = json.loads(line)
    if "id" not in asked or "method" not in asked:
        continue
    reply = {"jsonrpc": "2.0", "id": asked["id"]}
    result = answer(asked["method"], asked.get("params", {}))
    if result is None:
        reply["error"] = {"code": -32601, "message": "Method not found"}
    else:
        reply["result"] = result
    say(reply)
