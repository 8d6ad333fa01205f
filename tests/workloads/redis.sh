# A database in memory with both kinds of persistence, and its restart. Arguments: folder, port.
set -eu
cd "$1"
ask() { redis-cli -p "$port" "$@"; }
port=$2
start() {
  redis-server --port "$port" --bind 127.0.0.1 --dir "$1" --appendonly yes --save 900 1 --daemonize yes \
    --pidfile "$1/pid" --logfile "$1/log" > /dev/null
  until ask ping > /dev/null 2>&1; do sleep 0.1; done
}
stop() {
  ask shutdown > /dev/null 2>&1 || true
  while test -e pid; do sleep 0.1; done
}
start "$1"
ask set name khard
ask incr count
ask incr count
ask lpush list one two three
ask bgsave > /dev/null
until test -e dump.rdb; do sleep 0.1; done
ask bgrewriteaof > /dev/null
until ask info persistence | grep -q 'aof_rewrite_in_progress:0'; do sleep 0.1; done
stop
start "$1"
ask get name
ask get count
ask lrange list 0 -1
stop
echo ended
