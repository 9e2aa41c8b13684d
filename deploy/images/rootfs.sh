#!/bin/sh
# Makes the root folder of an image that has nothing but some programs: they, the libraries they need,
# certificates, and a user without rights.
#
# Usage: rootfs.sh FOLDER PROGRAM...
set -eu

root=$1
shift
mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/data" "$root/tmp"
chmod 1777 "$root/tmp"

for program in "$@"; do
    cp "$program" "$root/usr/local/bin/"
    # Each library, and the loader: `name => path (address)` or `path (address)`.
    ldd "$program" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'
done | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
echo 'dms:x:65532:65532::/data:/sbin/nologin' > "$root/etc/passwd"
echo 'dms:x:65532:' > "$root/etc/group"
chown 65532:65532 "$root/data"
