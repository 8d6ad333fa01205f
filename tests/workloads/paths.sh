# Names that nobody should give to files, and paths that become others. Argument: folder; run by root.
set -eu
export LC_ALL=C
cd "$1"
# The substitution takes newlines off the end.
line=$(printf 'line\nbreak')
escape=$(printf 'escape \033[31mred')
invalid=$(printf 'invalid\377\376')
for name in "$line" "$escape" "$invalid" 'quo"te' "apo'strophe" 'br{a,b}ace' 'st*r' 'que?tion' '[a-z]' '[^x]' \
  'back\slash' 'back\\slashes' '@{PROC}' '#comment' ' before' 'after ' 'comma,' 'deny rwx,' '"} profile x {' '^caret' '..2026' '-'; do
  echo kept > "./$name"
  cat < "./$name"
done
# The directory's path is the file's.
mkdir one
echo moved > one/file
cat one/file
mv one two
cat two/file
mkdir one
echo anew > one/file
cat one/file
# Two names, each of which is asked for.
ln two/file hard
cat hard
# The second file is likely to have the number of the first.
for name in first second third; do
  echo "$name" > "$name"
  cat "$name"
  rm "$name"
done
# The same names below other mounts, and what was below them.
mkdir mount
echo under > mount/file
mount --bind two mount
cat mount/file
umount mount
mount --bind one mount
cat mount/file
umount mount
cat mount/file
