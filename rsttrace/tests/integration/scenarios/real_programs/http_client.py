# An HTTP client of the library that the argument names. It executes one command per line, on connections that the library
# keeps, and answers with one line: the status, or the name of the error.
import asyncio, sys, warnings

warnings.simplefilter('ignore')


def of_requests():
    import requests
    session = requests.Session()
    session.verify = False

    def obey(verb, url, number):
        if verb == 'post':
            return session.post(url).status_code
        if verb == 'wait':
            return session.get(url, timeout=number).status_code
        if verb == 'part':
            with session.get(url, stream=True) as response:
                return len(response.raw.read(int(number)))
        if verb == 'upload':
            return session.post(url, data=bytes(int(number))).status_code
    return obey


def of_httpx():
    import httpx
    client = httpx.Client(verify=False)

    def obey(verb, url, number):
        if verb == 'post':
            return client.post(url).status_code
        if verb == 'wait':
            return client.get(url, timeout=number).status_code
        if verb == 'part':
            with client.stream('GET', url) as response:
                return len(next(response.iter_raw(int(number))))
        if verb == 'upload':
            return client.post(url, content=bytes(int(number))).status_code
    return obey


def of_http_client():
    import http.client
    from urllib.parse import urlsplit
    kept = {}

    def obey(verb, url, number):
        place = urlsplit(url)
        connection = kept.setdefault(place.netloc, http.client.HTTPConnection(place.netloc))
        connection.request(verb.upper(), place.path)
        response = connection.getresponse()
        response.read()
        return response.status
    return obey


async def of_aiohttp():
    import aiohttp
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        async def obey(verb, url, number):
            if verb == 'part':
                async with session.get(url) as response:
                    return len(await response.content.readexactly(int(number)))
            if verb == 'wait':
                request = session.get(url, timeout=aiohttp.ClientTimeout(total=number))
            elif verb == 'upload':
                request = session.post(url, data=bytes(int(number)))
            else:
                request = session.post(url)
            async with request as response:
                await response.read()
                return response.status

        print('ready', flush=True)
        # The event loop goes on while the next command is awaited.
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, url, number = line.split()
            if verb == 'leave':
                break
            try:
                print(await obey(verb, url, float(number)), flush=True)
            except Exception as error:
                print(type(error).__name__, flush=True)


def serve(obey):
    print('ready', flush=True)
    for line in sys.stdin:
        verb, url, number = line.split()
        if verb == 'leave':
            break
        try:
            print(obey(verb, url, float(number)), flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)


library = sys.argv[1]
if library == 'aiohttp':
    asyncio.run(of_aiohttp())
else:
    serve({'requests': of_requests, 'httpx': of_httpx, 'http.client': of_http_client}[library]())
