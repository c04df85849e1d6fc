# Common part of the servers: they execute one command per line, and answer with one line.
import os, socket, struct, sys, threading

ADDRESS = ('127.0.0.1', 8080)


def listen(**options):
    return socket.create_server(ADDRESS, backlog=64, **options)


def line(connection):
    """One line; nothing after it is taken."""
    text = b''
    while byte := connection.recv(1):
        if byte == b'\n':
            return text.decode()
        text += byte
    return ''


def serve(connection):
    try:
        while command := line(connection):
            if command == 'pid':
                connection.sendall(b'%d\n' % os.getpid())
            elif command == 'abort':
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                break
            elif command == 'leave':
                # Closes as soon as there is something to leave unread.
                connection.recv(1, socket.MSG_PEEK)
                break
            elif command == 'exit':
                connection.recv(1, socket.MSG_PEEK)
                os._exit(0)
    except ConnectionResetError:
        pass
    connection.close()


def ready():
    print('ready', flush=True)
