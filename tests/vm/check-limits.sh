#!/usr/bin/env bash
# Checks the limits of cgroup v2 and systemd-run where the tests' own machine has neither: boots Debian 12 (kernel 6.1,
# systemd 252) in QEMU, without acceleration, and runs check_limits.py there as root and as a user. Takes about five minutes,
# needs root and the packages qemu-system-x86 debootstrap e2fsprogs; writes to /tmp/flashfm-vm only.
#
#     sudo tests/vm/check-limits.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_tree=$here/../../src/flashfm
work=/tmp/flashfm-vm
root=$work/root
mkdir -p "$work"

if [ ! -e "$work/made" ]; then
  rm -rf "$root"
  packages=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,python3,linux-image-cloud-amd64
  debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$work/debootstrap.log"
  touch "$work/made"
fi

mkdir -p "$root/opt/flashfm/measurements"
cp "$source_tree"/{__init__,errors,records}.py "$root/opt/flashfm/"
cp "$source_tree"/measurements/{__init__,limits,systemd,watchdog}.py "$root/opt/flashfm/measurements/"
cp "$here/check_limits.py" "$root/opt/"
echo "/dev/vda / ext4 rw 0 1" >"$root/etc/fstab"
ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
cat >"$root/opt/all.sh" <<'EOF'
#!/bin/sh
exec >/dev/ttyS0 2>&1
cd /opt; export PYTHONPATH=/opt PYTHONDONTWRITEBYTECODE=1
python3 check_limits.py cgroup-v2
python3 check_limits.py systemd-run
useradd -m tester; loginctl enable-linger tester; sleep 5
id=$(id -u tester)
as_user() { runuser -u tester -- env XDG_RUNTIME_DIR=/run/user/$id DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$id/bus "$@"; }
as_user python3 check_limits.py systemd-run
as_user systemd-run --user --scope -p Delegate=yes python3 check_limits.py cgroup-v2
systemctl poweroff --force --force
EOF
chmod +x "$root/opt/all.sh"
unit=$root/etc/systemd/system/check.service
printf '[Unit]\nAfter=dbus.service\n[Service]\nType=oneshot\nExecStart=/opt/all.sh\n[Install]\nWantedBy=multi-user.target\n' >"$unit"
ln -sf /etc/systemd/system/check.service "$root/etc/systemd/system/multi-user.target.wants/check.service"

rm -f "$work/disk.img"
mke2fs -q -t ext4 -d "$root" "$work/disk.img" 900M
timeout 900 qemu-system-x86_64 -m 1024 -smp 1 -nographic -no-reboot \
  -kernel "$root"/boot/vmlinuz-* -initrd "$root"/boot/initrd.img-* \
  -append "root=/dev/vda rw console=ttyS0 loglevel=1 systemd.show_status=0 systemd.unified_cgroup_hierarchy=1" \
  -drive "file=$work/disk.img,format=raw,if=virtio" </dev/null >"$work/console.log" 2>&1
tr -d '\r' <"$work/console.log" | grep -aE '^(cgroup-v2|systemd-run|  )|Error|Traceback'
[ "$(grep -ac 'PASSED' "$work/console.log")" = 4 ]
