"""One start of rgovd, as it is watched while something of it fails."""

from shortage import *


class Start:
    """One start of rgovd.  ready() is true, or it has ended with `status`."""

    def __init__(self, rgovd, *prefix):
        self.rgovd = rgovd
        forget_governor(rgovd.name)  # or it may find its window full
        self.path = rgovd.scratch.path / "notify"
        self.path.unlink(missing_ok=True)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.path))
        with open(rgovd.scratch.path / "start.log", "wb") as self.log:
            self.popen = subprocess.Popen(
                [str(a) for a in (*prefix, *rgovd.argv())],
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                close_fds=False, process_group=0,
                env=dict(rgovd.env, NOTIFY_SOCKET=str(self.path)))
        self.pidfd = os.pidfd_open(self.popen.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(5)
        os.close(self.pidfd)
        self.notify.close()

    def ready(self):
        while True:
            found, _, _ = select.select([self.notify, self.pidfd], [], [],
                                        LATE_S)
            if self.notify not in found:
                return False
            if b"READY=1" in self.notify.recv(4096):
                return True

    @property
    def status(self):
        return self.popen.poll()

    def text(self):
        return (self.rgovd.scratch.path / "start.log").read_text()


def leavings(rgovd):
    """What lies about of it, beside the lock's files and the board of one that
    had been ready."""
    found = glob.glob(f"/dev/shm/rgov.{rgovd.name}*")
    found += glob.glob(f"{rgovd.runtime_dir}/*")
    return {f for f in found if not f.endswith("lock")
            and f != f"/dev/shm/rgov.{rgovd.name}"}


def judge_start(start, rgovd, puppet, hold):
    """What is wrong with it, or None.  hold(): what fails from READY on is
    another path."""
    if start.ready():
        hold()
        if "counts as full" in start.text():
            return None  # the old board could not be read: it is careful
        answer = puppet.visit(puppet.call)
        return None if answer.is_good else f"it is ready, but: {answer}"
    if start.status is None:
        return "it neither is ready nor has ended"
    if start.status <= 0:
        return f"it ended with {start.status}"
    if not start.text().strip():
        return f"it ended with {start.status} and without a word"
    left = leavings(rgovd)
    return f"it left {left}" if left else None
