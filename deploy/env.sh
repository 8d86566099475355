#!/bin/sh
# Write .env: generated passwords and your uid for docker compose, addresses for `nvp` on this machine. Mode 0600.
# Also the folders that containers and this machine share, yours. An .env that is there is kept: the stores know its
# passwords.
set -eu
umask 077
cd "$(dirname "$0")/.."
mkdir -p .nvp/artifacts .nvp/keys
if [ -e .env ]; then
  echo ".env is there and kept; for new passwords remove it and the stores: docker compose down --volumes"
  exit 0
fi
password() { od -An -N 18 -t x1 /dev/urandom | tr -d ' \n'; }
sed -e "s/^NVP_UID=.*/NVP_UID=$(id -u)/" -e "s/^NVP_GID=.*/NVP_GID=$(id -g)/" \
  -e "s/^NVP_REDIS_PASSWORD=.*/NVP_REDIS_PASSWORD=$(password)/" \
  -e "s/^NVP_NEO4J_PASSWORD=.*/NVP_NEO4J_PASSWORD=$(password)/" .env.example > .env
echo ".env written; next: docker compose up --build --wait"
