# A web application of Python's own library. Arguments: folder, port.
set -eu
cd "$1"
cat > application.py << END
import json, os, sqlite3, sys, tempfile, threading
from wsgiref.simple_server import make_server, WSGIRequestHandler

class Quiet(WSGIRequestHandler):
    def log_message(self, *words): pass

base = sqlite3.connect("base.sqlite", check_same_thread=False)
base.execute("create table if not exists visits (path text)")

def application(environ, respond):
    with base: base.execute("insert into visits values (?)", (environ["PATH_INFO"],))
    if environ["PATH_INFO"] == "/end":
        threading.Thread(target=server.shutdown).start()
    n, = base.execute("select count(*) from visits").fetchone()
    with tempfile.NamedTemporaryFile(dir=".") as file: file.write(b"x")
    respond("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"path": environ["PATH_INFO"], "visits": n}).encode() + b"\n"]

server = make_server("127.0.0.1", int(sys.argv[1]), application, handler_class=Quiet)
open("ready", "w").close()
server.serve_forever()
END
/usr/bin/python3 application.py "$2" &
while sleep 0.1; do if test -e ready; then break; fi; done
for path in first second end; do curl -s "http://127.0.0.1:$2/$path"; done
wait
echo ended
