#!/bin/sh
# Last step of the image's build stage: finish.sh VERSION makes of /opt/floatip, which has the locked packages, what
# the image carries. Nothing is fetched.
set -eu
src=$(cd "$(dirname "$0")/../.." && pwd)
home=/opt/floatip
python=$home/bin/python
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

cp -r "$src/cni_floatip" "$site/"
# The descriptions of EC2 and STS as we call them, made from the botocore that is here.
"$python" -m cni_floatip.edges.ec2.service_model

version=$("$python" -c 'import cni_floatip; print(cni_floatip.__version__)')
if [ "$version" != "$1" ]; then
  echo "this is release $version: build with --build-arg VERSION=$version, not $1" >&2
  exit 1
fi

cat >$home/bin/floatipctl <<EOF
#!$python -I
import sys

from cni_floatip.cli import main

sys.exit(main())
EOF
chmod 755 $home/bin/floatipctl

# Nothing that we call imports boto3, and of botocore's 29 MB of descriptions we have our own extract.
rm -rf "$site"/boto3 "$site"/boto3-*.dist-info "$site"/s3transfer "$site"/s3transfer-*.dist-info
find "$site/botocore/data" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
rm -f "$site/botocore/data/endpoints.json"
# For shells and for people at a keyboard, and leftovers of the build.
find "$home/bin" -type f ! -name floatipctl -delete
rm -rf "$home/include"
find "$site" \( -name __pycache__ -o -name tests -o -name '*.pyi' \) -prune -exec rm -rf {} +

# What the node bundle is linked from, by Debian's source packages: their sources belong to it (NOTICE).
archive=$(python3 -c 'import sysconfig; print("{LIBPL}/{LIBRARY}".format_map(sysconfig.get_config_vars()))')
mkdir -p /usr/share/doc/cni-floatip
for linked in "$archive" "$(gcc -print-file-name=libc.a)" "$(gcc -print-libgcc-file-name)"; do
  dpkg-query --search "$(realpath "$linked")" | cut -d: -f1 |
    xargs -r dpkg-query --show --showformat='${source:Package} ${source:Version}\n'
done >/usr/share/doc/cni-floatip/SOURCES

# A root file system that nobody can write to cannot be given compiled files later. By content, for a layer may not
# keep the time of a file to the second.
"$python" -m compileall -q --invalidation-mode unchecked-hash "$site"
