#!/usr/bin/python3 -B
"""Everything a provider can answer, or not answer: each becomes a typed error
with status, code and message, within its time, and hurts no other request.
"""

from harness import *

QUICK = """throttle_backoff = "20ms"
transient_backoff = "10ms"
backoff_cap = "100ms"
probe_ok_after = "50ms"
max_attempts = 3
"""
ONCE = QUICK.replace("= 3", "= 1")

CLIENT = """
import json, rgov, sys, time
gov = rgov.connect()
for model in sys.argv[1:]:
    begin = time.monotonic()
    try:
        reply = gov.invoke(model, {"max_tokens": 5}, user="u", timeout=TIMEOUT)
        result = {"type": "Reply", "status": reply.status,
                  "attempts": reply.attempts}
    except rgov.UpstreamError as e:
        result = {"type": "UpstreamError", "status": e.status, "code": e.code,
                  "message": e.message, "attempts": e.attempts}
    except Exception as e:
        result = {"type": type(e).__name__, "message": str(e)}
    result["seconds"] = time.monotonic() - begin
    print(json.dumps(result), flush=True)
"""


def upstream(endpoint, *more):
    return ('upstream "bedrock" {\n' + f'endpoint = "{endpoint}"\n'
            + f'region = "{REGION}"\nconnect_timeout = "500ms"\n'
            + 'read_timeout = "700ms"\n' + "\n".join(more) + "\n}\n")


def ask(rgovd, *models, deadline_s=20):
    done = rgovd.python(CLIENT.replace("TIMEOUT", str(deadline_s)), *models, timeout=120)
    equal(done.returncode, 0, f"the client's status ({done.stderr})")
    return [json.loads(line) for line in done.stdout.splitlines()]


def expect(result, what, status, codes, attempts=None):
    equal(result["type"], "UpstreamError", f"{what}: type of {result}")
    equal(result["status"], status, f"{what}: status of {result}")
    check(result["code"] in codes,
          f"{what}: code {result['code']!r} is none of {codes}")
    check(result["message"], f"{what}: there is a message: {result}")
    check(result["seconds"] < 15, f"{what}: {result['seconds']:.1f} s")
    if attempts is not None:
        equal(result["attempts"], attempts, f"{what}: attempts of {result}")


# fault of the simulator, status, codes, attempts (None: not judged)
FAULTS = (
    ("429", 429, ("ThrottlingException",), 1),
    ("429-tokens", 429, ("ThrottlingException",), 1),
    ("429-type-in-body", 429, ("ThrottlingException",), 1),
    ("429-not-ready", 429, ("ModelNotReadyException",), 1),
    ("500", 500, ("InternalServerException",), 1),
    ("503", 503, ("ServiceUnavailableException",), 1),
    ("408", 408, ("ModelTimeoutException",), 1),
    ("424", 424, ("ModelErrorException",), 1),
    ("400-quota", 400, ("ServiceQuotaExceededException",), 1),
    ("403", 403, ("AccessDeniedException",), 1),
    ("404", 404, ("ResourceNotFoundException",), 1),
    ("200-error", 200, ("UnknownOperationException",), 1),
    ("reset", 0, ("ConnectionReset",), None),
    ("truncated", 200, ("Truncated",), None),
    ("garbage", 0, ("BadResponse",), None),
    ("hang", 0, ("ReadTimeout",), None),
    ("slow-headers:5", 0, ("ReadTimeout",), None),
)


@checks.test
def every_answer_is_typed():
    """One governor meets all faults, one model each, and serves a healthy model
    after every single one of them."""
    flags = []
    for kind, *_ in FAULTS:
        flags += ["--fault-model", f"bad.{kind.split(':')[0]}={kind}"]
    failures = []
    with Sim(extra=flags) as sim, \
            Rgovd(limits(rpm=10000, concurrency=10) + ONCE
                  + upstream(sim.url)) as rgovd:
        for kind, status, codes, attempts in FAULTS:
            bad, good = ask(rgovd, f"bad.{kind.split(':')[0]}", "good")
            try:
                expect(bad, kind, status, codes, attempts)
                equal(good["type"], "Reply", f"the healthy model after {kind}")
            except Failed as e:
                failures.append(str(e))
        wait_until(rgovd.is_idle, what="an idle rgovd")
        check("max_tokens" not in rgovd.process.text(), "no body in the log")
        check(SECRET_KEY not in rgovd.process.text(), "no key in the log")
    check(not failures, "\n     ".join(failures))


@checks.test
def a_reused_connection_that_closes_is_no_lost_request():
    """The provider closes kept-alive connections without an answer now and
    then: every request is answered, and none was performed that rgov did not
    count."""
    with Sim(extra=["--fault", "close-reused:0.3"]) as sim, \
            Rgovd(limits(rpm=10000) + QUICK.replace("= 3", "= 10"),
                  sim=sim) as rgovd:
        results = ask(rgovd, *["good"] * 30)
        kinds = {r["type"] for r in results}
        equal(kinds, {"Reply"}, "results")
        attempts = sum(r["attempts"] for r in results)
        equal(sim.report()["arrivals"], attempts, "arrivals, one per attempt")


@checks.test
def a_throttle_now_and_then_is_not_seen():
    """One in five calls is throttled; with retries every user is answered."""
    with Sim(extra=["--fault", "429:0.2"]) as sim, \
            Rgovd(limits(rpm=10000) + QUICK.replace("= 3", "= 10"),
                  sim=sim) as rgovd:
        results = ask(rgovd, *["good"] * 20)
        equal({r["type"] for r in results}, {"Reply"}, "results")
        check(sim.report()["faults"] > 0, "there were throttles")


@checks.test
def what_may_get_better_is_waited_out():
    """A provider that always throttles, or is away: tried again up to the
    deadline, one attempt at a time.  What may be the request's own fault is
    tried max_attempts times."""
    waited, counted = ("429", "503"), ("429-not-ready", "500")
    kinds = (*waited, *counted)
    flags = [f for k in kinds for f in ("--fault-model", f"bad.{k}={k}")]
    with Sim(extra=flags) as sim, \
            Rgovd(limits(rpm=10000) + QUICK, sim=sim) as rgovd:
        results = ask(rgovd, *[f"bad.{k}" for k in kinds], deadline_s=2)
        for kind, result in zip(kinds, results):
            check(result["type"] in ("UpstreamError", "Timeout"), f"{result}")
            if kind in counted:
                equal(result["attempts"], 3, f"attempts of {kind}: {result}")
            else:
                check(1.5 < result["seconds"] < 10, f"{kind}: until its "
                      f"deadline, found {result['seconds']:.1f} s")
        check(sim.report()["arrivals"] > 4 * len(kinds), "it was tried again")


@checks.test
def nobody_listens():
    """Connection refused: ConnectFailed."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # bound, and never listens
        with Rgovd(ONCE + upstream(f"http://127.0.0.1:{s.getsockname()[1]}")
                   ) as rgovd:
            expect(ask(rgovd, "m")[0], "refused", 0, ("ConnectFailed",))


@checks.test
def the_host_name_is_unknown():
    with Rgovd(ONCE + upstream("https://bedrock.invalid")) as rgovd:
        expect(ask(rgovd, "m")[0], "no such host", 0,
               ("ResolveFailed",))


def certificate(folder, names):
    """A certificate that signs itself, for these names: (certificate, key)."""
    paths = folder / "cert.pem", folder / "key.pem"
    done = run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                "-days", "2", "-subj", "/CN=simulator", "-addext",
                f"subjectAltName={names}", "-keyout", paths[1], "-out",
                paths[0]])
    equal(done.returncode, 0, f"openssl ({done.stderr})")
    return paths


def tls_sim(cert, key):
    return Sim(extra=["--tls-port", "0", "--cert", cert, "--key", key])


@checks.test
def certificates_are_verified():
    """A certificate that no known authority signed, or of another host, is
    BadCertificate and nothing is sent; with ca_file the right one is good."""
    with Scratch() as folder:
        cert, key = certificate(folder, "DNS:localhost,IP:127.0.0.1")
        with tls_sim(cert, key) as sim:
            with Rgovd(QUICK + upstream(sim.tls_url)) as rgovd:
                expect(ask(rgovd, "m")[0], "unknown authority", 0,
                       ("BadCertificate",))
            equal(sim.report()["arrivals"], 0, "arrivals")
            with Rgovd(QUICK + upstream(sim.tls_url, f'ca_file = "{cert}"')
                       ) as rgovd:
                equal(ask(rgovd, "m")[0]["type"], "Reply", "with ca_file")
        cert, key = certificate(folder, "DNS:other.example")
        with tls_sim(cert, key) as sim, \
                Rgovd(QUICK + upstream(sim.tls_url, f'ca_file = "{cert}"')
                      ) as rgovd:
            expect(ask(rgovd, "m")[0], "another host's", 0,
                   ("BadCertificate",))
            equal(sim.report()["arrivals"], 0, "arrivals")


@checks.test
def wrong_keys_are_told():
    """The provider refuses the signature: its own status and code, once."""
    env = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with Sim() as sim, Rgovd(QUICK, sim=sim, env=env) as rgovd:
        result = ask(rgovd, "m")[0]
        equal(result["type"], "UpstreamError", f"type of {result}")
        equal(result["status"], 403, f"status of {result}")
        check("ignature" in result["code"], f"code of {result}")
        check("wrong" not in rgovd.process.text(), "no key in the log")


checks.main()
