#!/usr/bin/python3 -B
"""Signatures, checked by somebody else: botocore signs for bedrock-sim, and
judges what rgovd signed.
"""

import datetime
import http.server
import urllib.parse

from harness import *

try:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
except ImportError:
    SigV4Auth = None

BODY = (b'{"anthropic_version":"bedrock-2023-05-31","max_tokens":5,'
        b'"messages":[{"role":"user","content":"Hello"}]}')
MODELS = ("anthropic.claude-sonnet-4-20250514-v1:0", "us.amazon.nova-pro-v1:0",
          "arn:aws:bedrock:us-east-1:123456789012:inference-profile/a.b-c_d",
          "vendor.model_x-1.0:2/3")


def need_botocore():
    if SigV4Auth is None:
        raise Skip("no botocore here")


def sign(url, body, headers, secret=SECRET_KEY, token=None):
    request = AWSRequest("POST", url, headers, body)
    SigV4Auth(Credentials(ACCESS_KEY, secret, token), "bedrock",
              REGION).add_auth(request)
    return dict(request.headers.items())


@checks.test
def bedrock_sim_takes_what_botocore_signs():
    """And refuses it when the key, the body or a signed header is another."""
    need_botocore()
    with Sim() as sim:
        for model in MODELS[:3]:
            path = f"/model/{urllib.parse.quote(model, safe='')}/invoke"
            headers = sign(sim.url + path, BODY,
                           {"Content-Type": "application/json"})

            def status(body=BODY, **changed):
                return http_request("POST", sim.url + path, body,
                                    dict(headers, **changed)).status

            equal(status(), 200, f"{model}: status")
            equal(status(body=BODY + b" "), 403, f"{model}: another body")
            equal(status(**{"Content-Type": "text/plain"}), 403,
                  f"{model}: another header")
            wrong = sign(sim.url + path, BODY,
                         {"Content-Type": "application/json"}, secret="x" * 40)
            equal(http_request("POST", sim.url + path, BODY, wrong).status,
                  403, f"{model}: another key")


class Recorder(http.server.BaseHTTPRequestHandler):
    """Keeps every request as it came and answers an empty message."""

    protocol_version = "HTTP/1.1"
    seen = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, list(self.headers.items()), body))
        answer = b'{"content":[],"usage":{"input_tokens":1,"output_tokens":1}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def recorder():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Recorder.seen.clear()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def authorization_by_botocore(url, headers, body, token):
    """What botocore would have written over exactly the headers that the
    request says are signed, at its own time."""
    low = {name.lower(): value for name, value in headers}
    signed = low["authorization"].split("SignedHeaders=")[1].split(",")[0]
    request = AWSRequest("POST", url, {name: low[name]
                                       for name in signed.split(";")
                                       if name not in ("host", "x-amz-date")},
                         body)
    signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, token), "bedrock",
                       REGION)
    request.context["timestamp"] = low["x-amz-date"]
    request.headers["X-Amz-Date"] = low["x-amz-date"]
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical),
                                 request)
    return signed, signature, low["authorization"]


@checks.cases(("plain", None), ("session-token", "FwoGZXIvYXdzEXAMPLETOKEN//="))
def botocore_agrees_with_rgovd(_name, token):
    """For every kind of model id the signature that rgovd sent is the one that
    botocore computes, over host, date, content type and token, just now."""
    need_botocore()
    source = """
import rgov, sys
gov = rgov.connect()
for model in sys.argv[2:]:
    gov.invoke(model, sys.argv[1].encode(), user="u")
"""
    env = {"AWS_SESSION_TOKEN": token} if token else {}
    with recorder() as url, Rgovd(endpoint=url, env=env) as rgovd:
        done = rgovd.python(source, BODY.decode(), *MODELS)
        equal(done.returncode, 0, f"the client's status ({done.stderr})")
        equal(len(Recorder.seen), len(MODELS), "requests")
        for model, (path, headers, body) in zip(MODELS, Recorder.seen):
            equal(path, f"/model/{urllib.parse.quote(model, safe='')}/invoke",
                  "path")
            equal(body, BODY, f"{model}: body")
            signed, signature, sent = authorization_by_botocore(
                url + path, headers, body, token)
            wanted = {"host", "x-amz-date", "content-type"}
            wanted |= {"x-amz-security-token"} if token else set()
            check(wanted <= set(signed.split(";")),
                  f"{model}: signed headers {signed}")
            check(sent.endswith(f"Signature={signature}"),
                  f"{model}: botocore has {signature}, rgovd sent {sent}")
            date = dict((k.lower(), v) for k, v in headers)["x-amz-date"]
            then = datetime.datetime.strptime(
                date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
            age = datetime.datetime.now(datetime.timezone.utc) - then
            check(abs(age.total_seconds()) < 60, f"the date {date} is now")


checks.main()
