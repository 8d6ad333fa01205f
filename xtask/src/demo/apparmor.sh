# The AppArmor half of the demonstration, run where AppArmor is in the kernel: nginx, recorded, and again under its own profile.
# What is shown is what is done; each step is checked.
set -eu
cd /root
work=/srv/demo
mkdir -p $work/html $work/tmp
echo 'khard was here' > $work/html/index.html
cat > $work/nginx.conf << END
daemon off;
user www-data;
pid $work/pid;
error_log $work/error.log;
events { worker_connections 64; }
http {
  access_log $work/access.log;
  client_body_temp_path $work/tmp/body;
  proxy_temp_path $work/tmp/proxy;
  fastcgi_temp_path $work/tmp/fastcgi;
  uwsgi_temp_path $work/tmp/uwsgi;
  scgi_temp_path $work/tmp/scgi;
  server { listen 127.0.0.1:80; root $work/html; }
}
END
show() { echo "\$ $*"; }
ask() {
  n=0
  until curl -s -o /dev/null http://127.0.0.1/; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.2; done
  for path in / /index.html /missing; do curl -s -m 20 -o /dev/null -w '%{http_code} ' "http://127.0.0.1$path"; done
}
# The kernel's own log says what was refused, all of it.
sysctl -q kernel.printk_ratelimit=0
dmesg -C

show khard trace -o out -- nginx -c $work/nginx.conf
khard trace -q -o out -- nginx -c $work/nginx.conf &
recorder=$!
before=$(ask)
kill -QUIT "$(cat $work/pid)"
wait $recorder
echo "  answers: $before"

profile=out/nginx/nginx.apparmor
name=$(sed -n 's/^profile \([^ ]*\) .*/\1/p' $profile)
show cat $profile
head -n 24 $profile
echo "… $(grep -c ',$' $profile) rules in all"
show apparmor_parser -r $profile
apparmor_parser -r $profile
show aa-status
aa-status | sed -n '1,4p'

show aa-exec -p "$name" -- nginx -c $work/nginx.conf
aa-exec -p "$name" -- nginx -c $work/nginx.conf &
again=$!
after=$(ask)
show "cat /proc/$(cat $work/pid)/attr/apparmor/current"
grep -q "^$name (enforce)" "/proc/$(cat $work/pid)/attr/apparmor/current"
cat "/proc/$(cat $work/pid)/attr/apparmor/current"
kill -QUIT "$(cat $work/pid)"
wait $again
echo "  answers: $after"
[ "$before" = "$after" ]
denied=$(dmesg | grep -c 'apparmor="DENIED"' || true)
echo "  denials in the kernel's log: $denied"
[ "$denied" = 0 ]

show aa-exec -p "$name" -- sh -c "'echo planted > $work/html/index.html'"
if aa-exec -p "$name" -- sh -c "echo planted > $work/html/index.html"; then exit 1; fi
grep -q 'khard was here' $work/html/index.html
dmesg | sed -n 's/.*\(apparmor="DENIED".*\)/  \1/p' | tail -n 1
