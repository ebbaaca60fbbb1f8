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
"$python" -m cni_floatip.ec2model

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
rm -rf "$home"/bin/[Aa]ctivate* "$home"/bin/jp.py "$home"/bin/jsonschema "$home"/bin/pyroute2-* "$home"/bin/ss2 \
  "$home/include"
find "$site" \( -name __pycache__ -o -name tests -o -name '*.pyi' \) -prune -exec rm -rf {} +

# A root file system that nobody can write to cannot be given compiled files later. By content, for a layer may not
# keep the time of a file to the second.
"$python" -m compileall -q --invalidation-mode unchecked-hash "$site"
