#!/usr/bin/env bash
# Images of this machine's own making under the names that docker-compose.yml and Dockerfile ask for, where no registry
# can be reached: the same servers (Debian's redis-server, Neo4j from Maven Central) in other images. For tests alone.
# Packages come from wherever this machine's own apt and pip get theirs.
#
#   build.sh FOLDER     keeps what it made in FOLDER and makes each image once
set -euo pipefail
images=$(cd "$(dirname "$0")" && pwd)
work=$(mkdir -p "$1" && cd "$1" && pwd)

have() { buildah images --quiet "$1" > /dev/null 2>&1; }
build() { buildah bud --quiet --isolation chroot --network host --tag "$1" "$2" > /dev/null; }

if ! have localhost/nvp-base; then
  # shellcheck source=/dev/null
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    sed -n "s/ $suite\$//p" | head -n 1)
  rm -rf "$work/base"
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,wget "$suite" "$work/base" "$mirror" \
    > "$work/debootstrap.log"
  # What this machine trusts and how it reaches its packages.
  cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/"
  for file in /etc/pip.conf /etc/apt/apt.conf.d/99*; do
    if [ -f "$file" ]; then cp "$file" "$work/base$file"; fi
  done
  ln -sf python3 "$work/base/usr/bin/python"
  tar -C "$work/base" -cf "$work/base.tar" .
  podman import --quiet "$work/base.tar" localhost/nvp-base > /dev/null
  rm -rf "$work/base" "$work/base.tar"
fi
buildah tag localhost/nvp-base docker.io/library/python:3.12-slim-bookworm

have docker.io/library/redis:8 || build docker.io/library/redis:8 "$images/redis"

if ! have docker.io/library/neo4j:5.26; then
  cp -r "$images/neo4j" "$work/"
  mvn -q -B -f "$work/neo4j/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/neo4j/lib"
  build docker.io/library/neo4j:5.26 "$work/neo4j"
  rm -rf "$work/neo4j"
fi
