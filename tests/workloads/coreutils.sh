# What scripts do all day. Argument: folder.
set -eu
export LC_ALL=C TZ=UTC
cd "$1"
umask 022
printf '%s\n' pear apple fig apple > fruit
cat fruit | sort | uniq -c | awk '{ print $2, $1 }'
tac fruit | head -2 | tail -1
cp fruit copy && cmp fruit copy && echo same
mv copy moved && ls
mkdir -p a/b/c && touch a/b/c/file && rmdir --ignore-fail-on-non-empty a && find a -type f
ln moved hard && ln -s moved soft && readlink soft && realpath --relative-to=. soft && stat -c '%h %a' moved
chmod 600 moved && chown 1000:1000 moved && stat -c '%u:%g %a' moved
cut -c1-2 fruit | paste -sd, | tr a-z A-Z
sort fruit > sorted && join sorted sorted | wc -l
nl -ba fruit | expand -t4 | fold -w12 | head -1
split -l 2 fruit part. && cat part.aa part.ab | sha256sum | cut -c1-8
md5sum fruit | cut -c1-8
dd if=fruit of=block bs=4 count=2 2> /dev/null && od -c block | head -1
truncate -s 100 block && du -b block | cut -f1
tee teed < fruit | wc -c
seq 1 5 | shuf --random-source=fruit 2> /dev/null | sort -n | tail -1
basename /a/b.c .c && dirname /a/b.c
date -d @0 +%F
expr 6 '*' 7
test -d a && echo folder
id -u && env -i A=1 env
install -m 755 fruit installed && stat -c %a installed
for time in 1 2 3; do mktemp -p . scratch.XXXXXXXX > name && test -e "$(cat name)" && rm "$(cat name)"; done
mkfifo pipe && (cat pipe & echo through > pipe; wait)
comm -12 sorted sorted | wc -l
diff fruit moved && echo no difference
grep -c apple fruit
sed -n 's/fig/date/p' fruit
tar cf tar.tar a fruit && tar tf tar.tar | tail -1
gzip -c fruit > fruit.gz && gzip -dc fruit.gz | head -1
echo 'a b' | xargs -n 1 echo
sleep 0.01 && timeout 5 true && nice -n 5 true
sync fruit && df . > /dev/null && uname -s && nproc > /dev/null
kill -0 $$ && echo alive
rm -r a fruit* part.* && ls | wc -l
