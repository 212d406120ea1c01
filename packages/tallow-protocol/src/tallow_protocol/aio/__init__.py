"""The asyncio shell: tasks, threads and sockets. It holds no rule of the protocol."""
