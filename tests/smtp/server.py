"""An SMTP server for tests: says on which port it is, then each message that it takes.

One line of JSON each. Ends when its standard input does.
"""

import argparse
import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Keeper:
    """Takes every message, but none for `refused@`."""

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 5.1.1 there is nobody of that name, says secret-of-the-server"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        say(
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "data": envelope.content.decode("utf-8"),
                "tls": session.ssl is not None,
                "login": session.authenticated,
            }
        )
        return "250 OK"


def say(what):
    print(json.dumps(what), flush=True)


async def main():
    options = argparse.ArgumentParser()
    options.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    options.add_argument("--cert")
    options.add_argument("--key")
    options.add_argument("--login", help="user:password")
    options = options.parse_args()

    context = None
    if options.tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)

    def authenticate(server, session, envelope, mechanism, data):
        given = f"{data.login.decode()}:{data.password.decode()}"
        return AuthResult(success=given == options.login, handled=False)

    def protocol():
        return SMTP(
            Keeper(),
            hostname="localhost",
            tls_context=context if options.tls == "starttls" else None,
            require_starttls=options.tls == "starttls",
            authenticator=authenticate,
            auth_required=options.login is not None,
            auth_require_tls=options.tls == "starttls",
        )

    loop = asyncio.get_running_loop()
    implicit = context if options.tls == "implicit" else None
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=implicit)
    say({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
