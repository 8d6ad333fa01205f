# Each thing that AppArmor mediates, once. Argument: folder.
exec exercise all "$1"
