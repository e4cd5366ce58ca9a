# The room a build runs in: its own processes and mounts, and of the devices only the harmless ones. Runs as the
# first process of fresh namespaces; what it mounts goes with them, however they end.
# room.sh STAGE SHOWN... -- COMMAND...
# STAGE is an empty directory; each SHOWN is NAME=SOURCE, read-only, or NAME:=SOURCE, writable, to be found in
# STAGE/shown. Standard input is an archive of further files for STAGE; no disk ever holds these.
set -e
stage=$1
shift
mount -t tmpfs -o mode=0755 glowplug "$stage"
mkdir "$stage/dev" "$stage/dev/pts" "$stage/dev/shm" "$stage/shown" "$stage/own" "$stage/empty"
for name in null zero full random urandom tty fuse $GLOWPLUG_DEVICES; do
    if [ -e "/dev/$name" ]; then
        mkdir -p "$(dirname "$stage/dev/$name")"
        : > "$stage/dev/$name"
        mount --bind "/dev/$name" "$stage/dev/$name"
    fi
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$stage/dev/pts" || mount --rbind /dev/pts "$stage/dev/pts"
mount -t tmpfs -o mode=1777 shm "$stage/dev/shm"
ln -s pts/ptmx "$stage/dev/ptmx"
ln -s /proc/self/fd "$stage/dev/fd"
tar -x -C "$stage" --no-same-owner
while [ "$1" != -- ]; do
    name=${1%%=*}
    source=${1#*=}
    shift
    case $name in
    *:) name=${name%:} option=rw ;;
    *) option=ro ;;
    esac
    if [ -d "$source" ]; then
        mkdir -p "$stage/shown/$name"
    else
        mkdir -p "$(dirname "$stage/shown/$name")"
        : > "$stage/shown/$name"
    fi
    mount --bind -o "$option" "$source" "$stage/shown/$name"
done
shift
mount --rbind "$stage/dev" /dev
exec "$@" < /dev/null
