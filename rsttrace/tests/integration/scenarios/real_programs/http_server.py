# Web application, for WSGI and ASGI.
import asyncio, time


def wsgi(environ, start):
    path = environ['PATH_INFO']
    if path == '/slow':
        time.sleep(1.9)
    if path == '/events':
        start('200 OK', [('Content-Type', 'text/event-stream')])
        return events()
    if path == '/refused':
        # Answers without a look at the upload.
        start('401 Unauthorized', [('Content-Length', '2'), ('Connection', 'close')])
        return [b'no']
    start('200 OK', [('Content-Length', '5')])
    return [b'hello']


def events():
    while True:
        yield b'data: 1\n\n'
        time.sleep(0.1)


async def asgi(scope, receive, send):
    if scope['type'] == 'lifespan':
        while (await receive())['type'] != 'lifespan.shutdown':
            await send({'type': 'lifespan.startup.complete'})
        await send({'type': 'lifespan.shutdown.complete'})
        return
    path = scope['path']
    if path == '/slow':
        await asyncio.sleep(1.9)
    if path == '/events':
        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/event-stream')]})
        while True:
            await send({'type': 'http.response.body', 'body': b'data: 1\n\n', 'more_body': True})
            await asyncio.sleep(0.1)
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'5')]})
    await send({'type': 'http.response.body', 'body': b'hello'})
