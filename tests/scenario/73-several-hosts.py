#!/usr/bin/python3 -B
"""examples/several-hosts as it stands: three governors with a Celery worker each,
one Redis, one quota; questions asked of the web application are answered by all
hosts, and what the README says of a lost Redis is so.
"""

from hosts import *

EXAMPLE = ROOT / "examples/several-hosts"
RPM, MINUTE = 30, 4.0


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                   for _ in range(n)]
        return [s.getsockname()[1] for s in sockets]


class Deployment:
    def __init__(self):
        self.scratch = Scratch()
        self.http, self.redis, self.sim = free_ports(3)
        self.name = unique_name() + "-"

    def __enter__(self):
        env = base_env(
            RUN=self.scratch.path, HTTP_PORT=self.http, REDIS_PORT=self.redis,
            SIM_PORT=self.sim, BUILD=BUILD, PYTHON=PYTHON, PATIENCE_S=2,
            NAME=self.name,
            SIM_OPTIONS=f"--minute {MINUTE} --latency fixed:0.05",
            RGOVD_OPTIONS=f"--set quota_window={MINUTE:g}s --set guard=200ms")
        self.process = Process("start", [EXAMPLE / "start"],
                               self.scratch.path / "start.log", env=env,
                               death_signal=signal.SIGTERM)
        wait_until(lambda: "Stop:" in self.process.text()
                   or not self.process.alive(), timeout=90, what="the start")
        check(self.process.alive(), "start has ended:\n" + self.process.tail())
        return self

    def __exit__(self, *_):
        self.process.stop(timeout=60)
        for n in (1, 2, 3):
            forget_governor(f"{self.name}{n}")
        self.scratch.remove()

    def stats(self, n):
        name = f"{self.name}{n}"
        return json.loads(run(
            [BUILD / "rgov", "stats", "--json"], env=base_env(
                RGOV_NAME=name,
                RGOV_RUNTIME_DIR=self.scratch.path / name)).stdout)

    def wait_for(self, mode):
        for n in (1, 2, 3):
            wait_until(lambda: self.stats(n)["cluster"]["mode"] == mode,
                       what=f"host {n} to be {mode}")

    def ask(self, n):
        """That many questions; where the answers will be."""
        asked = [http_request(
            "POST", f"http://127.0.0.1:{self.http}/analyze_section",
            json.dumps({"session_id": f"u{i % 5}", "text": f"{i}"}).encode(),
            {"Content-Type": "application/json"}) for i in range(n)]
        return [a.json()["status_url"] for a in asked]

    def wait_answered(self, places):
        def is_answered(place):
            found = http_request(
                "GET", f"http://127.0.0.1:{self.http}{place}").json()
            check(found["status"] != "FAILURE", f"a task failed: {found}")
            return found["status"] == "SUCCESS"
        for place in places:
            wait_until(lambda: is_answered(place), what="an answer",
                       timeout=60)

    def report(self):
        return http_request(
            "GET", f"http://127.0.0.1:{self.sim}/_sim/report").json()


@checks.test
def it_does_what_its_page_says():
    """All hosts serve, nobody is throttled; without Redis each has its share,
    and with it again the quota is leased again; it ends as a whole."""
    with Deployment() as all_hosts:
        all_hosts.wait_for("leased")
        all_hosts.wait_answered(all_hosts.ask(60))
        served = [all_hosts.stats(n)["successful_requests"]
                  for n in (1, 2, 3)]
        check(min(served) >= 5, f"each host serves: {served}")
        redis = int(re.search(r"kill -STOP (\d+)",
                              all_hosts.process.text())[1])
        os.kill(redis, signal.SIGSTOP)
        all_hosts.wait_for("apart")
        os.kill(redis, signal.SIGCONT)
        all_hosts.wait_for("leased")
        all_hosts.wait_answered(all_hosts.ask(10))
        report = all_hosts.report()
        equal(report["throttled"], 0, "throttles")
        check(report["max_starts_in_window"] <= RPM,
              f"starts in a window: {report['max_starts_in_window']}")
        begin = time.monotonic()
        equal(all_hosts.process.stop(timeout=60), 0, "the status of start")
        check(time.monotonic() - begin < 20, "the stop took long")


checks.main()
