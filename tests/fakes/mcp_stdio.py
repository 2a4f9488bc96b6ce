"""An MCP server on its pipes, in plain Python: what a test's child process runs."""

import json
import sys
import time

PAGES = {
    None: ([{"name": "add.two", "description": "Add.", "inputSchema": {"type": "object"}}], "2"),
    "2": ([{"name": name} for name in ("fail", "hang", "die", "big", "noise", "count")], None),
}


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def send(message: object) -> None:
    write(json.dumps(message))


def main() -> None:
    cancelled = 0
    sys.stderr.write("starting\n")
    for line in sys.stdin:
        request = json.loads(line)
        method, id, params = request["method"], request.get("id"), request.get("params", {})
        answer = {"jsonrpc": "2.0", "id": id}
        if method == "initialize":
            send({"jsonrpc": "2.0", "id": "s1", "method": "ping"})  # its own request, first
            assert json.loads(sys.stdin.readline()) == {"jsonrpc": "2.0", "id": "s1", "result": {}}
            send({**answer, "result": {"protocolVersion": params["protocolVersion"]}})
        elif method == "notifications/cancelled":
            cancelled += 1
        elif method == "tools/list":
            tools, cursor = PAGES[params.get("cursor")]
            more = {"nextCursor": cursor} if cursor else {}
            send({**answer, "result": {"tools": tools, **more}})
        elif method == "tools/call":
            call(params, answer, cancelled)


def call(params: dict, answer: dict, cancelled: int) -> None:  # type: ignore[type-arg] # JSON
    match params["name"]:
        case "add.two":
            text = json.dumps([params["arguments"], params["_meta"]])
            send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
            content = [{"type": "image", "data": ""}, {"type": "text", "text": text}]
            send({**answer, "result": {"content": content}})
        case "fail":
            content = [{"type": "text", "text": "no such thing"}]
            send({**answer, "result": {"content": content, "isError": True}})
        case "count":
            send({**answer, "result": {"content": [{"type": "text", "text": str(cancelled)}]}})
        case "hang":
            pass
        case "die":
            sys.exit(1)
        case "big":
            write("x" * 2_000_000)
            time.sleep(5)
        case "noise":
            write("Hello, I am a log line")


main()
