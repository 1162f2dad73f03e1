#!/bin/busybox sh
# The guest's first process: load modules, lay a writable overlay over the host's files, run the job, power off.
# It runs twice: in the initramfs, then as /guest/init on the root that it made. With `systemd` on the kernel's
# command line systemd is the first process in between, and the second part is a unit of it.
bb=/bin/busybox

share() { $bb mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,$2 $1 $3; }

if [ -d /modules ]; then
    $bb mount -t proc proc /proc
    $bb mount -t sysfs sys /sys
    $bb mount -t devtmpfs dev /dev
    for module in $($bb cat /modules/order); do $bb insmod /modules/$module || echo "can't load $module"; done
    $bb mkdir /lower /over /new
    share root ro,cache=loose /lower
    $bb mount -t tmpfs -o size=75% over /over
    $bb mkdir /over/upper /over/work
    $bb mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /new
    $bb mkdir -p /new/guest/job /new/guest/out /new/guest/modules
    $bb cp /modules/i2c-stub.ko /new/guest/modules
    $bb cp /init /new/guest/init
    $bb cp $bb /new/guest/busybox
    share job cache=none /new/guest/job
    share out cache=none /new/guest/out
    for each in proc sys dev; do $bb mount --move /$each /new/$each; done
    if $bb grep -qw systemd /new/proc/cmdline; then
        $bb rm -f /new/.dockerenv  # by which systemd would take this for a container
        units=/new/etc/systemd/system
        $bb mkdir -p $units
        $bb ln -sf /dev/null $units/systemd-tmpfiles-setup.service  # it would empty /tmp, where the checkout may be
        $bb printf '%s\n' '[Unit]' 'After=basic.target' 'Requires=basic.target' '[Service]' 'Type=oneshot' \
            'TimeoutStartSec=infinity' 'ExecStart=/guest/busybox sh /guest/init' > $units/guest-job.service
        exec $bb switch_root /new /lib/systemd/systemd --unit=guest-job.service
    fi
    exec $bb switch_root /new /guest/busybox sh /guest/init
fi

bb=/guest/busybox
if [ $$ = 1 ]; then
    $bb mkdir -p /dev/pts /dev/shm
    $bb mount -t devpts -o ptmxmode=666,mode=620 devpts /dev/pts
    $bb mount -t tmpfs shm /dev/shm
    $bb mount -t tmpfs run /run
    $bb ln -sfn /proc/self/fd /dev/fd
    $bb ip link set lo up
fi
$bb grep -q ' /sys/kernel/config ' /proc/mounts || $bb mount -t configfs configfs /sys/kernel/config
# A sign of life from each processor, for run.py, which watches them.
for number in $($bb seq 0 $(($($bb nproc) - 1))); do
    $bb taskset -c $number /guest/busybox sh -c "while :; do : > /guest/job/alive-$number; $bb sleep 5; done" &
done
# The job's streams are the second and third port of a virtio console; the kernel numbers the console itself.
until [ -e /dev/vport*p2 ]; do $bb sleep 0.05; done
out=$(echo /dev/vport*p1) err=$(echo /dev/vport*p2)
$bb setsid /bin/sh /guest/job/command < /dev/null > $out 2> $err
echo $? > /guest/job/status
$bb reboot -f
