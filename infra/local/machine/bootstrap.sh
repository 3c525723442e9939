#!/bin/sh
# Takes the place of the program for Lambda, and runs it in a virtual machine without hardware
# support: with the kernel and the program that `cargo xtask kernel` put into the folder
# WAFER_MACHINE, with a processor of the generation Haswell, the oldest that has x86-64-v3, and with
# the memory of the function. Its environment is passed on; servers on this machine are reached.
# Signals reach the whole machine, as a frozen environment is a frozen machine on Lambda.
#
# With WAFER_MACHINE_USAGE=PORT, what the program has used can be read from that port; see usage.
set -eu
machine=$WAFER_MACHINE
own=$(mktemp -d)
env | grep -E '^(AWS|WAFER)_' |
    sed -e "s/127\.0\.0\.1/10.0.2.2/g" -e "s/'/'\\\\''/g" -e "s/=\(.*\)/='\1'/" -e 's/^/export /' \
        >"$own/environment"
(cd "$own" && echo environment | busybox cpio -o -H newc 2>/dev/null) >"$own/archive"
cat "$machine/files" "$own/archive" >"$own/all"
# The file stays as long as it is open.
exec 3<"$own/all"
rm -r "$own"
forward=${WAFER_MACHINE_USAGE:+,hostfwd=tcp:127.0.0.1:$WAFER_MACHINE_USAGE-:9}
exec qemu-system-x86_64 -accel tcg -cpu Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid -smp 1 \
    -m "${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-512}" \
    -kernel "$machine/kernel" -initrd /dev/fd/3 -append "console=ttyS0 quiet panic=-1" \
    -netdev "user,id=net$forward" -device virtio-net-pci,netdev=net,romfile= \
    -nographic -no-reboot -nodefaults -serial stdio -monitor none </dev/null
