# A database in memory with both kinds of persistence, and its restart. Arguments: folder, port.
set -eu
cd "$1"
ask() { redis-cli -p "$port" "$@"; }
port=$2
# Sleeps once at least, so that no run starts a program that another does not.
until_so() { while sleep 0.1; do if "$@"; then break; fi; done; }
answers() { ask ping > /dev/null 2>&1; }
rewritten() { ask info persistence | grep -q 'aof_rewrite_in_progress:0'; }
start() {
  redis-server --port "$port" --bind 127.0.0.1 --dir "$1" --appendonly yes --save 900 1 --daemonize yes \
    --pidfile "$1/pid" --logfile "$1/log" > /dev/null
  until_so answers
}
stop() {
  ask shutdown > /dev/null 2>&1 || true
  until_so test ! -e pid
}
start "$1"
ask set name khard
ask incr count
ask incr count
ask lpush list one two three
ask bgsave > /dev/null
until_so test -e dump.rdb
ask bgrewriteaof > /dev/null
until_so rewritten
stop
start "$1"
ask get name
ask get count
ask lrange list 0 -1
stop
echo ended
