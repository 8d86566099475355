#!/bin/sh
# Neo4j's own server, told by the variables that the official image understands: NEO4J_AUTH, NEO4J_a_b__c for a.b_c.
set -eu
home=/var/lib/neo4j
run() { java --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED "$@"; }
{
  echo server.default_listen_address=0.0.0.0
  env | sed -n 's/^NEO4J_\(.*\..*\|[a-z][^=]*\)=\(.*\)/\1 \2/p' | while read -r name value; do
    echo "$(echo "$name" | sed 's/__/%/g; s/_/./g; s/%/_/g')=$value"
  done
} > $home/conf/neo4j.conf
if [ ! -e /data/dbms/auth.ini ] && [ ! -d /data/databases/system ]; then
  NEO4J_HOME=$home NEO4J_CONF=$home/conf run -cp '/opt/neo4j/lib/*' org.neo4j.cli.AdminTool \
    dbms set-initial-password "${NEO4J_AUTH#neo4j/}"
fi
exec java --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED \
  "-Xmx${NEO4J_server_memory_heap_max__size:-512m}" -cp '/opt/neo4j/lib/*' \
  org.neo4j.server.CommunityEntryPoint --home-dir=$home --config-dir=$home/conf
