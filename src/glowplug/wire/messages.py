"""Every message kind, listed once. A message is a msgpack array: the kind, then the fields named here.

``payload`` fields hold ``bytes`` (a pickle, inline) or a list of sizes: then the bytes are in a memory file
whose descriptor travels beside the frame (see ``wire.payload``).
"""

from __future__ import annotations

PROTOCOL = 1
"""Raised whenever a message changes its meaning; both ends must agree."""

# client -> server
HELLO = 1  # protocol, build_id, config_digest, config_text, pid
OPEN_APP = 4  # request, app_id, spec
CLOSE_APP = 7  # request, app_id, reason
INPUTS = 10  # function_id, call_id, kept, [[input_id, payload], ...]
CREDIT = 15  # input_id, items (to the container as well)
CANCEL_CALL = 20  # call_id, terminate_containers
ATTACH_CALL = 28  # request, call_id
HTTP = 29  # no field; from a container: its end of the socket that travels beside it speaks HTTP

# server -> client
WELCOME = 2  # server_pid, banner
REFUSED = 3  # error class, message
REPLY = 6  # request, error class or "", message or result
RESULTS = 13  # [[input_id, status, payload, error, message], ...]
LOGS = 16  # app_id, [[function, input_id, container_id, stream, text, at], ...]
NOTICE = 17  # app_id, level, text
RUN_ENDED = 19  # app_id, why: somebody else than its client ended it
WAITING = 18  # app_id, function, text or None when it waits no more

# server -> container, data connection
LEASE = 11  # [[input_id, attempt, payload], ...]

# container -> server, data connection
OUTPUTS = 12  # [[input_id, attempt, status, run_s, payload], ...]
ITEM = 14  # input_id, attempt, index, payload (server -> client: input_id, index, payload)

# server -> container, control connection
CANCEL_INPUT = 21  # input_id, attempt
RECALL = 22  # [input_id, ...]
STOP = 26  # reason

OPEN_EXEC = 27  # no field; the descriptor of an exec's channel travels beside it

# container -> server, control connection
READY = 24  # no field; the descriptor of the container's own pidfd travels beside it
RETURNED = 23  # [input_id, ...]
START_FAILED = 25  # message, permanent

# either way
PING = 30  # token
PONG = 31  # token

# A connection of its own for each command that runs inside a container; its first message is EXEC.
# client -> server
EXEC = 40  # protocol, container_id, {command, pty, size, variables, directory}
EXEC_INPUT = 41  # bytes; empty at their end
EXEC_SIZE = 42  # rows, columns of the terminal
EXEC_SIGNAL = 43  # number

# server -> client
EXEC_STARTED = 44
EXEC_OUTPUT = 45  # 1 or 2 (stdout, stderr), bytes
EXEC_ENDED = 46  # exit code as a shell counts it, or None; a message where it did not even start
# REFUSED as above
