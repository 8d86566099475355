#!/bin/sh
# Redis whose users survive: the owner's line made anew from REDISCLI_AUTH, the accounts' lines as ACL SAVE left them.
# Data and users lie in the working directory; arguments go to redis-server.
set -eu
umask 077
{
  echo "user default on #$(printf %s "$REDISCLI_AUTH" | sha256sum | cut -d ' ' -f 1) ~* &* +@all"
  if [ -f users.acl ]; then sed '/^user default /d' users.acl; fi
} > users.acl.new
mv users.acl.new users.acl
exec redis-server "$(dirname "$0")/redis.conf" --dir "$PWD" "$@"
