"""The coordinator's own work, without any: its real parts, in virtual time, on a platform that only waits."""
