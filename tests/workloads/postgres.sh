# A database: its cluster is made, asked, restarted, asked again. Arguments: folder, port.
set -eu
cd "$1"
export LC_ALL=C PGUSER=postgres PGHOST="$1" PGPORT="$2" PGDATA="$1/data"
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
chown postgres:postgres "$1"
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
ask() { as psql -qtAX -c "$1" postgres; }
as initdb --no-sync -A trust > initdb.log
start() { as pg_ctl -w -t 600 -l "$PGDATA/log" -o "-p $PGPORT -k $PGHOST -c listen_addresses=127.0.0.1" start > /dev/null; }
start
ask 'create table things (id int primary key, name text)'
ask "insert into things select n, 'thing ' || n from generate_series(1, 1000) n"
ask 'create index on things (name)'
ask "copy (select * from things where id < 3) to stdout"
ask "select count(*) from things a join things b on a.id = b.id order by 1"
as pg_ctl -w -t 600 -m fast stop > /dev/null
start
ask 'select max(id) from things'
ask 'vacuum analyze things'
ask 'checkpoint'
as pg_ctl -w -t 600 -m fast stop > /dev/null
echo ended
