# A web server: static files, a reload, rotation of its log, a graceful end. Arguments: folder, port.
set -eu
cd "$1"
mkdir html tmp
echo 'khard was here' > html/page.html
cat > nginx.conf << END
user www-data;
worker_processes 2;
pid $1/pid;
error_log $1/error.log notice;
events { worker_connections 64; }
http {
  access_log $1/access.log;
  client_body_temp_path $1/tmp/body;
  proxy_temp_path $1/tmp/proxy;
  fastcgi_temp_path $1/tmp/fastcgi;
  uwsgi_temp_path $1/tmp/uwsgi;
  scgi_temp_path $1/tmp/scgi;
  server { listen 127.0.0.1:$2; root $1/html; }
}
END
get() { curl -s "http://127.0.0.1:$2/$1"; }
# Sleeps once at least, so that no run starts a program that another does not.
until_so() { while sleep 0.1; do if "$@"; then break; fi; done; }
nginx -c "$1/nginx.conf"
get page.html "$2"
get none "$2" | head -1 | tr -d '\r'
sed -i 's/worker_processes 2/worker_processes 1/' nginx.conf
echo 'and again' > html/page.html
nginx -c "$1/nginx.conf" -s reload
until_so grep -q 'gracefully shutting down' error.log
get page.html "$2"
mv access.log access.log.1
nginx -c "$1/nginx.conf" -s reopen
until_so test -e access.log
answered() { get page.html "$1" > answer && test -s access.log; }
until_so answered "$2"
cat answer
wc -l < access.log.1
nginx -c "$1/nginx.conf" -s quit
until_so test ! -e pid
echo ended
