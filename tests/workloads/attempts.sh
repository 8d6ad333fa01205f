# What file permissions refuse to a user, beside the same that they allow. Argument: folder; run by root.
set -eu
cd "$1"
umask 022
mkdir closed open
echo a > closed/file
chmod 777 open
setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '
  try() { "$@" 2> /dev/null && echo done || echo refused; }
  mkdir open/dir
  echo b > open/file
  chmod 600 open/file
  mv open/file open/moved
  ln open/moved open/hard
  ln -s moved open/soft
  rm open/hard
  rmdir open/dir
  try mkdir closed/dir
  try rm -f closed/file
  try chmod 777 closed/file
  try ln -s x closed/soft
  try mv closed/file open/stolen
  try touch closed/new
'
rm closed/file
