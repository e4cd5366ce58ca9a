"""What a hostile function tries. Every attempt returns what it got; nothing, when it got nothing."""

import ctypes
import errno
import json
import os
import signal
import stat
import struct
import subprocess
import sys

import modal

app = modal.App("hostile")
shelf = modal.Volume.from_name("shelf", create_if_missing=True)
own = modal.Volume.from_name("own", create_if_missing=True)
libc = ctypes.CDLL(None, use_errno=True)
WAITING = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"


@app.function(volumes={"/shelf": shelf}, secrets=[modal.Secret.from_dict({"KEY": "the victim's key"})])
def victim(mark):
    """Leaves everything a container can have, and stays while others look for it."""
    for path in ("/shelf/file", "/tmp/victims-file", "/dev/shm/victims-file"):
        with open(path, "w") as file:
            file.write("the victim's")
    left = subprocess.Popen([sys.executable, "-c", WAITING, mark], stdout=subprocess.PIPE)
    left.stdout.readline()


def processes(mark, host):
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                text = file.read()
            if b"the victim's key" in text or (name == "cmdline" and mark.encode() in text):
                found.append([pid, name])
    return found


def files(mark, host):
    looked_for = [
        "/tmp/victims-file",
        "/dev/shm/victims-file",
        "/shelf",
        "/.volumes",
        "/.old",
        "/.glowplug-layers",
    ]
    return [path for path in looked_for if os.path.exists(path)]


def places_of_the_server(mark, host):
    found = [path for path in (host["secret file"], "/run/docker.sock", "/run/dbus") if os.path.exists(path)]
    for directory in (host["home"], host["runtime"]):
        if os.path.exists(directory):  # as an empty directory, where what it lies in is shown
            found += os.listdir(directory)
    return found


def what_others_may_not_read(mark, host):
    found = []
    for path in host["private"]:
        try:
            if os.path.isdir(path):
                found += [path] if os.listdir(path) else []
            else:
                with open(path, "rb") as file:
                    found += [path] if file.read(1) else []
        except OSError:
            pass
    return found


def cards(mark, host):
    return [name for name in os.listdir("/dev") if name.startswith("nvidia")]


def descriptors(mark, host):
    """Its own: null, output, three connections, and what the interpreter makes."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # that of the listing itself
        if not target.startswith(("/dev/null", "pipe:", "socket:", "anon_inode:", "/memfd:glowplug")):
            found.append(target)
    sockets = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}") or fd]
    connections = 0
    for fd in sockets:
        try:
            connections += stat.S_ISSOCK(os.fstat(int(fd)).st_mode)
        except OSError:
            continue
    return found + ([f"{connections} connections"] if connections > 4 else [])


def writes(mark, host):
    """Where a write would stay."""
    found = []
    for path in ("/usr/bin/left", "/etc/left", "/sys/left", f"{sys.prefix}/left", host["home"] + "/left"):
        try:
            with open(path, "w"):
                found.append(path)
        except OSError:
            continue
    return found


def switches(mark, host):
    """What of the kernel's root may turn, by its number alone."""
    found = []
    for path in (
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/proc/mtrr",
        "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper", "/sys/power/state",
    ):  # fmt: skip
        try:
            os.close(os.open(path, os.O_WRONLY))
            found.append(path)
        except OSError:
            continue
    return found


def root_of_the_first_process(mark, host):
    same = os.stat("/proc/1/root/").st_ino == os.stat("/").st_ino
    return [] if same and not os.path.exists("/proc/1/root" + host["secret file"]) else ["another root"]


def devices(mark, host):
    found = []
    for kind, name in ((stat.S_IFBLK, "disk"), (stat.S_IFCHR, "memory")):
        try:
            os.mknod(f"/tmp/{name}", kind | 0o600, os.makedev(1, 1))
            found.append(name)
        except OSError:
            continue
    return found


def capabilities(mark, host):
    with open("/proc/self/status") as file:
        lines = dict(line.split(":\t") for line in file.read().splitlines() if ":\t" in line)
    wrong = [name for name in lines if name.startswith("Cap") and int(lines[name], 16)]
    return wrong + ([] if lines["NoNewPrivs"] == "1" else ["new privileges"])


def mounts(mark, host):
    """Mounting, remounting, changing roots, and namespaces in which one may."""
    found = []

    def attempt(name, result):
        if result == 0:
            found.append(name)

    attempt("mount", libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))
    for path in (b"/usr", b"/etc", b"/proc/sys", b"/sys"):
        attempt(f"remount {path}", libc.mount(b"none", path, None, 4096 | 32, None))
    attempt("umount", libc.umount2(b"/proc/sys", 2))
    attempt("chroot", libc.chroot(b"/proc/1/root"))
    attempt("new mount API", 0 if libc.syscall(430, b"tmpfs", 0) >= 0 else -1)
    for name, flags in (("user", 0x10000000), ("user and mount", 0x10020000), ("PID", 0x20000000)):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if libc.unshare(flags) == 0 else 1)
        attempt(f"{name} namespace", os.waitpid(pid, 0)[1])
    fd = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    attempt("setns", libc.setns(fd, 0))
    os.close(fd)
    return found


def system_calls(mark, host):
    """Each is refused before the kernel looks at its arguments: EPERM for arguments that are nonsense."""
    x86 = os.uname().machine == "x86_64"
    numbers = {
        "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
        "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "add_key": (248, 217), "setns": (308, 268),
    }  # fmt: skip
    found = []
    for name, (on_x86, on_arm) in numbers.items():
        ctypes.set_errno(0)
        result = libc.syscall(on_x86 if x86 else on_arm, -1, 0, 0, 0, 0)
        if result >= 0 or ctypes.get_errno() != errno.EPERM:
            found.append(f"{name}: {errno.errorcode.get(ctypes.get_errno())}")
    main, _ = os.openpty()
    if libc.ioctl(main, 0x5412, struct.pack("c", b"x")) == 0 or ctypes.get_errno() != errno.EPERM:
        found.append("TIOCSTI")
    return found


def strangers(mark, host):
    """Signals to processes that are not its own: their numbers mean nothing here."""
    found = []
    for pid in host["pids"]:
        if os.path.exists(f"/proc/{pid}"):
            continue  # one of its own has that number
        try:
            os.kill(pid, 0)
            found.append(pid)
        except ProcessLookupError:
            pass
    return found


def links(mark, host):
    """A link in a volume leads nowhere but into the container."""
    os.symlink(host["secret file"], "/own/link")
    os.symlink("../../../../../../../.." + host["secret file"], "/own/relative")
    return [name for name in ("/own/link", "/own/relative") if os.path.exists(name)]


ATTEMPTS = [
    processes, files, places_of_the_server, what_others_may_not_read, cards, descriptors, writes, switches,
    root_of_the_first_process, devices, capabilities, mounts, system_calls, strangers, links,
]  # fmt: skip


@app.function(volumes={"/own": own})
def attacker(mark, host):
    got = {}
    for attempt in ATTEMPTS:
        try:
            got[attempt.__name__] = attempt(mark, host)
        except Exception as error:
            got[attempt.__name__] = f"the attempt itself failed: {error!r}"
    return got


@app.function()
def stay(mark):
    """Processes that want to live on: of another session, deaf to SIGTERM, not bound to their parent."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            libc.prctl(1, 0, 0, 0, 0)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.set_inheritable(write, True)
            os.dup2(write, 1)
            os.execv(sys.executable, [sys.executable, "-c", WAITING, mark])
        os._exit(0)
    os.read(read, 1)
    return os.getpid()


@app.local_entrypoint()
def main(mark: str, host: str):
    victim.remote(mark)
    got = attacker.remote(mark, json.loads(host))
    stay.remote(mark)
    print(json.dumps(got))
