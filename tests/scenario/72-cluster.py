#!/usr/bin/python3 -B
"""One quota over three rgovd, a real Redis and a simulator that judges: used to
the full and shared fairly, never exceeded, whatever becomes of Redis; and what
is said where Redis is not what it should be.

RGOV_LONG=1: over more windows, and what takes longer (tests/fault/65-cluster.py).
"""

from hosts import *

RPM = 60
TAGS = ("a", "b", "c")
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
LONG = "RGOV_LONG" in os.environ
WINDOWS, MINUTE = (20, 3.0) if LONG else (3, 2.5)
SLOW = re.search(r"[at]san", str(BUILD)) is not None


def figures(**values):
    print("     | " + "  ".join(f"{k} {v:.3f}" if isinstance(v, float)
                                else f"{k} {v}" for k, v in values.items()),
          flush=True)


def long_test(function):
    """Only with RGOV_LONG."""
    return checks.test(function) if LONG else function


def sleep(windows):
    """Time that is measured over, not waited for."""
    time.sleep(windows * MINUTE)


class Hosts:
    """Three rgovd, their Redis and the simulator of their quota."""

    def __init__(self, loss="share", environs=({},) * 3, network=None):
        self.stack = contextlib.ExitStack()
        self.network = network
        self.sim = self.stack.enter_context(
            Sim(rpm=RPM, minute=MINUTE, latency="fixed:0.01", auth="none"))
        self.journal = Journal(self.sim, MINUTE)
        try:
            self._start(loss, environs)
        except BaseException:
            self.stack.close()
            raise

    def _start(self, loss, environs):
        argv, address = ["--requirepass", PLAIN], "127.0.0.1"
        if self.network:
            address = f"{self.network.net}.2"
            argv += ["--bind", f"127.0.0.1 {address}"]
            self.network.relay(self.sim.scratch, self.sim.ports["http"])
        self.redis = self.stack.enter_context(Redis(argv=argv))
        url = f"redis://:{PASSWORD}@{address}:{self.redis.port}/2"
        self.rgovds = [self.stack.enter_context(
            Host(self.network, i, quota(RPM, MINUTE)
                 + shared(url, loss=loss, host=TAGS[i]), sim=self.sim,
                 env=environs[i])) for i in range(3)]

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.stack.__exit__(*failure)

    def load(self, i):
        return self.stack.enter_context(
            Load(self.rgovds[i], TAGS[i], prefix=self.rgovds[i].prefix))

    def wait_for_all(self, mode):
        for rgovd in self.rgovds:
            wait_for_mode(rgovd, mode)

    def wait_leased(self):
        begin = time.monotonic()
        self.wait_for_all("leased")
        figures(leased_after_s=time.monotonic() - begin)

    def kill_redis(self):
        """And what it has written with it."""
        self.redis.kill9()
        shutil.rmtree(self.redis.scratch.path / "appendonlydir")

    def judge(self):
        """Over all that happened."""
        worst = self.journal.worst_window()
        throttled = self.sim.report()["throttled"]
        figures(worst_window=worst, quota=RPM, throttled=throttled)
        check(worst <= RPM, f"{worst} starts in a window, the quota is {RPM}")
        equal(throttled, 0, "throttles")
        bad = [e for e in self.sim.events()
               if e["event"] == "end" and e["status"] != 200]
        check(not bad, f"answers other than 200: {bad[:3]}")


def measure(hosts, windows, tags=TAGS):
    used, shares = hosts.journal.measure(RPM, windows, tags)
    figures(windows=windows, hosts=len(tags), used=used, from_equal=shares)
    return used, shares


# ---------------------------------------------------------------- the quota

def use_it_all(hosts):
    """All busy: 95 % of it, in shares within 5 % of equal.  One alone: 95 %."""
    loads = [hosts.load(i) for i in range(3)]
    hosts.wait_leased()
    sleep(2.2)  # equal a window after the last of them has begun
    used, shares = measure(hosts, WINDOWS)
    check(used >= 0.95, f"all busy: {used:.3f} of the quota")
    check(shares <= 0.05, f"all busy: {shares:.3f} from equal")
    loads[1].process.kill9()
    loads[2].process.kill9()
    sleep(1.3)
    used, _ = measure(hosts, max(2, WINDOWS // 2), TAGS[:1])
    check(used >= 0.95, f"one alone: {used:.3f} of the quota")


def clocks_off():
    """A sanitized build refuses libfaketime."""
    if SLOW or not os.path.exists(FAKETIME):
        return ({},) * 3
    return [{"LD_PRELOAD": FAKETIME, "FAKETIME": f"{hours:+d}h",
             "FAKETIME_DONT_FAKE_MONOTONIC": "1"} for hours in (-7, 0, 26)]


@checks.test
def the_quota_is_used_and_never_exceeded():
    """By all in equal shares, by one alone, whose clocks are hours off; one that
    is killed and comes back is the same host, its starts known."""
    with Hosts(environs=clocks_off()) as hosts:
        use_it_all(hosts)
        hosts.rgovds[0].restart()
        wait_for_mode(hosts.rgovds[0], "leased")
        sleep(1)
        found = cluster_of(hosts.rgovds[0])
        equal((found["hosts"], found["host"], found["namesake"]),
              (3, "a", False), "hosts, host, namesake")
        hosts.judge()


@checks.test
def a_lost_redis_is_no_reason_to_exceed_it():
    """Killed for two windows and back empty; then stopped for two: with
    `share` no window is above the quota, and it is used again afterwards."""
    with Hosts() as hosts:
        for i in range(3):
            hosts.load(i)
        hosts.wait_leased()
        sleep(1)
        for _ in range(3 if LONG else 1):
            lose_redis(hosts)
        hosts.judge()
        counters = hosts.rgovds[0].stats()["counters"]
        check(counters["cluster_losses"] >= 2, f"losses: {counters}")
        log = hosts.rgovds[0].process.text()
        check(PLAIN not in log and PASSWORD not in log,
              "the password is in the log")
        equal(log.count("cluster.lost"), counters["cluster_losses"],
              "lines of a loss")


def lose_redis(hosts):
    hosts.kill_redis()
    hosts.wait_for_all("apart")
    begin = time.monotonic()
    sleep(2)
    used = hosts.journal.used(RPM, begin, time.monotonic())
    figures(used_while_killed=used)
    check(used > 0.3, f"with shares of its own: {used:.3f} of the quota")
    hosts.redis.start()
    hosts.wait_leased()
    used, _ = measure(hosts, 1)
    check(used >= 0.8, f"back: {used:.3f} of the quota")
    hosts.redis.process.signal(signal.SIGSTOP)
    hosts.wait_for_all("apart")
    sleep(2)
    hosts.redis.process.signal(signal.SIGCONT)
    hosts.wait_leased()
    sleep(1)


@checks.cases(("stop",), *([("ignore",)] if LONG else []))
def on_loss(loss):
    "stop: nothing starts.  ignore: each host has the whole quota."
    with Sim(minute=MINUTE, latency="fixed:0.01") as sim, Redis() as redis:
        journal = Journal(sim, MINUTE)
        with Rgovd(quota(RPM, MINUTE)
                   + shared(redis.url, hosts=1, loss=loss, host="a"),
                   sim=sim) as rgovd, Load(rgovd, "a"):
            wait_for_mode(rgovd, "leased")
            redis.kill9()
            wait_for_mode(rgovd, "apart")
            time.sleep(0.3 * MINUTE)  # what was admitted before
            begin = time.monotonic()
            sleep(1.3)
            used = journal.used(RPM, begin, time.monotonic())
            if loss == "stop":
                equal(used, 0.0, "used with stop")
            else:
                check(used > 0.7, f"with ignore: {used:.3f} of the quota")
                check(journal.worst_window() <= RPM, "its own limit holds")
            redis.start()
            wait_for_mode(rgovd, "leased")
            wait_until(lambda: journal.arrivals(since=time.monotonic() - 1),
                       what="a start under a lease")


@checks.test
def who_says_good_bye_leaves_all_to_the_others():
    "A clean stop is known at once: nothing is kept for the one that left."
    with Hosts() as hosts:
        hosts.wait_leased()
        hosts.load(0)
        for rgovd in hosts.rgovds[1:]:
            begin = time.monotonic()
            rgovd.process.stop()
            check(time.monotonic() - begin < 2, "the stop took long")
        wait_until(lambda: cluster_of(hosts.rgovds[0])["hosts"] == 1,
                   what="one host")
        sleep(1)
        used, _ = measure(hosts, 1, TAGS[:1])
        check(used >= 0.93, f"alone: {used:.3f} of the quota")
        hosts.judge()


@long_test
def three_network_namespaces():
    """As hosts with nothing in common but the network: the same.  One is cut
    off from Redis, not from the provider: still no window above the quota."""
    with Network(3) as network, Hosts(network=network) as hosts:
        use_it_all(hosts)
        for i in (1, 2):
            hosts.load(i)
        sleep(1.3)
        network.cut(2)
        wait_for_mode(hosts.rgovds[2], "apart")
        begin = time.monotonic()
        sleep(3)
        figures(used_while_cut=hosts.journal.used(RPM, begin,
                                                  time.monotonic()))
        check(hosts.journal.arrivals("c", since=begin + MINUTE),
              "the host that is cut off goes on with its share")
        network.mend(2)
        hosts.wait_leased()
        sleep(2)
        hosts.judge()


# ---------------------------------------------------------------- what is wrong

def certificates(folder):
    """A CA, and a server's key with a certificate for localhost by it."""
    def openssl(*argv):
        done = run(["openssl", *argv])
        equal(done.returncode, 0, f"openssl {argv[0]}: {done.stderr}")
    names = folder / "names"
    names.write_text("subjectAltName=DNS:localhost")
    for who in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                f"/CN={who}", "-keyout", folder / f"{who}.key", "-out",
                folder / f"{who}.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=redis", "-keyout", folder / "redis.key",
            "-out", folder / "redis.csr")
    openssl("x509", "-req", "-in", folder / "redis.csr", "-CA",
            folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", names, "-out", folder / "redis.pem")


def free_port():
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        return finder.getsockname()[1]


class Speaker:
    """Listens, and says the same to everybody."""

    def __init__(self, words):
        self.words = words
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.links = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                link, _ = self.listener.accept()
                self.links.append(link)
                link.sendall(self.words)

    def close(self):
        self.listener.close()
        for link in self.links:
            link.close()


def is_told(rgovd, trouble, words):
    """In JSON, by the doctor, in the log once; and nobody waits for it."""
    wait_until(lambda: cluster_of(rgovd)["trouble"] == trouble,
               what=f"the trouble {trouble}")
    done = rgovd.rgov("doctor", timeout=60)
    check("FAIL  cluster: redis" in done.stdout and words in done.stdout,
          f"no {words!r} from the doctor:\n{done.stdout}")
    begin = time.monotonic()
    done = rgovd.python("import sys, rgov; rgov.connect().invoke("
                        f"{MODEL!r}, {(BODY % 'x').encode()!r}, timeout=5)")
    equal(done.returncode, 0, f"a call with `ignore`: {done.stderr}")
    check(time.monotonic() - begin < 4, "the call waited for Redis")
    log = rgovd.process.text()
    told = [l for l in log.splitlines() if "cluster.trouble" in l
            and words in l]
    equal(len(told), 1, f"lines about it in\n{log}")
    check("hunter2" not in log and PLAIN not in log, "a password is shown")


@contextlib.contextmanager
def governed(url, **more):
    """One rgovd of a cluster that it cannot be in; its limits go on."""
    with Sim() as sim, \
            Rgovd(quota(RPM, MINUTE) + shared(url, loss="ignore", hosts=1,
                                              **more), sim=sim) as rgovd:
        yield rgovd


@checks.cases(
    ("password", ["--requirepass", "other"], "redis://:hunter2@{}", "WRONGPASS"),
    ("password", ["--requirepass", "other"], "redis://{}", "NOAUTH"),
    ("password", [], "redis://me:hunter2@{}", "WRONGPASS"),
    ("db", [], "redis://{}/99", "out of range"),
    ("moved", ["--cluster-enabled", "yes", "--cluster-port", free_port()],
     "redis://{}", "CLUSTERDOWN"),
    ("full", ["--maxmemory", "1"], "redis://{}", "OOM"))
def redis_refuses(trouble, argv, url, words):
    "What Redis answers is told in its words."
    with Redis(argv=argv) as redis, \
            governed(url.format(f"127.0.0.1:{redis.port}")) as rgovd:
        is_told(rgovd, trouble, words)


def connections(link):
    """That Redis has had, asked over one that stays."""
    link.sendall(b"INFO stats\r\n")
    return int(re.search(rb"total_connections_received:(\d+)",
                         link.recv(65536))[1])


@checks.test
def a_replica_is_not_written_to():
    "READONLY is told once, however often it is tried; promoted, it serves."
    with Redis() as primary, \
            Redis(argv=["--replicaof", f"127.0.0.1 {primary.port}"]) as redis, \
            governed(redis.url) as rgovd:
        is_told(rgovd, "readonly", "READONLY")
        with socket.create_connection(("127.0.0.1", redis.port)) as link:
            before = connections(link)
            wait_until(lambda: connections(link) >= before + 2, what="tries")
        equal(rgovd.process.text().count("READONLY"), 1, "lines about it")
        run(["redis-cli", "-p", redis.port, "replicaof", "no", "one"])
        wait_for_mode(rgovd, "leased")
        check("cluster.well" in rgovd.process.text(), "it is not told")


@checks.test
def nobody_speaks_redis_there():
    "A closed port, silence, another protocol, floods: each has its word."
    cases = (("connect", None, "refused"),
             ("silent", b"", "ms"),
             ("garbage", b"HTTP/1.1 400 Bad Request\r\n\r\n", "Redis"),
             ("garbage", b"+OK\r\n" * 7, "asked for"),
             ("garbage", b"*2000000000\r\n", "Redis"),
             ("garbage", b"*1\r\n" * 5000, "Redis"),
             ("garbage", b"$400000000\r\n" + b"x" * 400000, "too much"))
    for trouble, words, told in cases:
        speaker = words is not None and Speaker(words)
        port = speaker.port if speaker else free_port()
        with governed(f"redis://127.0.0.1:{port}") as rgovd:
            is_told(rgovd, trouble, told)
            check(rgovd.stats()["host"]["resident_bytes"] < 400 << 20,
                  "it has grown")
        if speaker:
            speaker.close()


@checks.test
def a_name_that_is_none():
    "Looked up beside the loop."
    with governed("redis://nowhere.invalid/0") as rgovd:
        is_told(rgovd, "name", "host name")


@checks.test
def tls_knows_whom_it_speaks_to():
    "By the right authority and under its own name; else it is told."
    with contextlib.ExitStack() as stack:
        scratch = Scratch()
        folder = scratch.path
        certificates(folder)
        port = free_port()
        stack.enter_context(Redis(argv=[
            "--tls-port", port, "--tls-cert-file", folder / "redis.pem",
            "--tls-key-file", folder / "redis.key", "--tls-ca-cert-file",
            folder / "ca.pem", "--tls-auth-clients", "no",
            "--requirepass", PLAIN]))
        url = f"rediss://:{PASSWORD}@{{}}:{port}/1"
        with governed(url.format("localhost"),
                      cluster_ca_file=folder / "ca.pem") as rgovd:
            wait_for_mode(rgovd, "leased")
        for host, ca in (("localhost", "other"), ("127.0.0.1", "ca")):
            with governed(url.format(host),
                          cluster_ca_file=folder / f"{ca}.pem") as rgovd:
                is_told(rgovd, "tls", "certificate")


@checks.test
def our_keys_hold_something_else():
    "Told; and all is well once the keys are ours again."
    with Redis() as redis:
        cli = ["redis-cli", "-p", redis.port]
        run([*cli, "set", "rgov:{default}:members", "mine"])
        with governed(redis.url) as rgovd:
            is_told(rgovd, "wrongtype", "WRONGTYPE")
            run([*cli, "del", "rgov:{default}:members"])
            wait_for_mode(rgovd, "leased")


@checks.test
def a_flushed_script_is_loaded_again():
    "Nothing is lost by it, and nothing said."
    with Redis() as redis, governed(redis.url) as rgovd, Load(rgovd, "a"):
        wait_for_mode(rgovd, "leased")
        for _ in range(5):
            before = rgovd.stats()["counters"]["cluster_answers"]
            done = run(["redis-cli", "-p", redis.port, "script", "flush"])
            equal(done.stdout.strip(), "OK", "script flush")
            wait_until(lambda: rgovd.stats()["counters"]["cluster_answers"]
                       > before + 2, what="answers")
        equal(rgovd.stats()["counters"]["cluster_losses"], 0, "losses")
        check("cluster.trouble" not in rgovd.process.text(), "trouble is told")


@checks.test
def a_reload_may_change_it():
    """Another password, another Redis, none at all; what is wrong with it is
    refused, and the old one is kept."""
    with Redis(argv=["--requirepass", PLAIN]) as redis, \
            governed(f"redis://:hunter2@127.0.0.1:{redis.port}") as rgovd:
        wait_until(lambda: cluster_of(rgovd)["trouble"] == "password",
                   what="the trouble")
        right = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}"
        rgovd.write_config(quota(RPM, MINUTE) + shared(right, hosts=1))
        done = rgovd.rgov("reload")
        equal(done.returncode, 0, done.stderr)
        check("cluster" in done.stdout and PASSWORD not in done.stdout,
              f"rgov reload says {done.stdout!r}")
        wait_for_mode(rgovd, "leased")
        rgovd.write_config(quota(RPM, MINUTE)
                           + shared("redis://:hunter2@x:0", hosts=1))
        done = rgovd.rgov("reload")
        check(done.returncode != 0 and "hunter2" not in done.stderr,
              f"a wrong URL: {done.stderr!r}")
        wait_for_mode(rgovd, "leased")
        rgovd.write_config(quota(RPM, MINUTE))
        equal(rgovd.rgov("reload").returncode, 0, "reload to alone")
        wait_for_mode(rgovd, "alone")


@checks.test
def who_joins_idle_is_leased_soon():
    "Not after a quarter of a window: that is how often an idle host asks."
    window_s = 60
    with Redis() as redis, contextlib.ExitStack() as stack:
        rgovds = [stack.enter_context(
            Rgovd(quota(RPM, window_s) + shared(redis.url, host=tag)))
            for tag in TAGS]
        for rgovd in rgovds:
            wait_for_mode(rgovd, "leased", timeout=window_s / 4 - 1)


@checks.test
def who_lost_its_board_is_not_believed():
    """Hosts that start for the first time are leased at once.  The same hosts
    without their boards, and a Redis that knows nothing: what they have started
    lately nobody knows, and a window must pass."""
    with Redis() as redis, contextlib.ExitStack() as stack:
        rgovds = [stack.enter_context(
            Rgovd(quota(RPM, 60) + shared(redis.url, host=tag)))
            for tag in TAGS]
        for rgovd in rgovds:
            wait_for_mode(rgovd, "leased")
        for rgovd in rgovds:
            rgovd.kill9()
            pathlib.Path(f"/dev/shm/rgov.{rgovd.name}").unlink()
        run(["redis-cli", "-p", redis.port, "flushall"])
        for rgovd in rgovds:
            rgovd.start()
        asked = rgovds[0].stats()["counters"]["cluster_asks"]
        wait_until(lambda: rgovds[0].stats()["counters"]["cluster_asks"]
                   > asked + 3, what="asks")
        for rgovd in rgovds:
            equal(rgovd.stats()["cluster"]["mode"], "pending", "mode")


@checks.test
def who_waits_for_nothing_asks_for_little():
    "An idle host: four asks a window, no other traffic."
    with Sim() as sim, Redis() as redis, \
            Rgovd(quota(RPM, 12) + shared(redis.url, hosts=1), sim=sim) as rgovd:
        wait_for_mode(rgovd, "leased")
        time.sleep(1)

        def commands():
            info = run(["redis-cli", "-p", redis.port, "info", "stats"]).stdout
            return int(re.search(r"total_commands_processed:(\d+)", info)[1])
        before = commands()
        asks = rgovd.stats()["counters"]["cluster_asks"]
        time.sleep(4)
        asks = rgovd.stats()["counters"]["cluster_asks"] - asks
        check(asks <= 2, f"{asks} asks in 4 s, the window is 12 s")
        check(commands() - before <= 3 + 20 * asks, "more than the asks")


checks.main()
