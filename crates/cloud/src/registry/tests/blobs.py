content = os.urandom(3_000_000)
name = digest(content)
call('HEAD', f'/v2/app/blobs/{name}').expect(404)

# In one stream of unknown length, as skopeo does it.
path = begin()
pieces = (content[n:n + 100_000] for n in range(0, len(content), 100_000))
answer = call('PATCH', path, pieces).expect(202)
assert answer.headers['range'] == f'0-{len(content) - 1}'
answer = call('GET', answer.headers['location']).expect(204)
assert answer.headers['range'] == f'0-{len(content) - 1}'
answer = call('PUT', f'{path}?digest={name}').expect(201)
assert answer.headers['docker-content-digest'] == name
call('GET', path).refused(404, 'BLOB_UPLOAD_UNKNOWN')

where = answer.headers['location']
answer = call('HEAD', where).expect(200)
assert answer.headers['content-length'] == str(len(content)) and answer.headers['docker-content-digest'] == name
assert call('GET', where).expect(200).body == content
# Every repository has it.
assert call('GET', f'/v2/other/app/blobs/{name}').expect(200).body == content

answer = call('GET', where, Range='bytes=1000-1999').expect(206)
assert answer.body == content[1000:2000] and answer.headers['content-range'] == f'bytes 1000-1999/{len(content)}'
assert call('GET', where, Range='bytes=-5').expect(206).body == content[-5:]
assert call('GET', where, Range='bytes=2999990-').expect(206).body == content[-10:]
answer = call('GET', where, Range='bytes=3000000-')
answer.refused(416, 'SIZE_INVALID')
assert answer.headers['content-range'] == 'bytes */3000000'

# At once, and by mounting what is here.
small = b'small'
call('POST', f'/v2/app/blobs/uploads/?digest={urllib.parse.quote(digest(small))}', small).expect(201)
assert call('GET', f'/v2/app/blobs/{digest(small)}').expect(200).body == small
answer = call('POST', f'/v2/new/blobs/uploads/?mount={digest(small)}&from=app').expect(201)
assert answer.headers['location'] == f'/v2/new/blobs/{digest(small)}'
answer = call('POST', f'/v2/new/blobs/uploads/?mount={digest(b"nowhere")}&from=app').expect(202)
call('DELETE', answer.headers['location']).expect(204)
call('DELETE', answer.headers['location']).refused(404, 'BLOB_UPLOAD_UNKNOWN')
empty = push_blob(b'')
assert call('GET', f'/v2/app/blobs/{empty["digest"]}').expect(200).body == b''

# In chunks, the last of them with the digest; one that is out of order is refused and spoils nothing.
path = begin()
answer = call('PATCH', path, b'0123', Content_Range='0-3').expect(202)
assert answer.headers['range'] == '0-3'
for wrong in ['0-3', '5-8']:
    answer = call('PATCH', path, b'4567', Content_Range=wrong)
    answer.refused(416, 'BLOB_UPLOAD_INVALID')
    assert answer.headers['range'] == '0-3'
for wrong in ['4-9', '7-4', 'nonsense']:
    call('PATCH', path, b'4567', Content_Range=wrong).refused(400, 'BLOB_UPLOAD_INVALID')
call('PATCH', path, b'4567', Content_Range='4-7').expect(202)
call('PUT', f'{path}?digest={digest(b"0123456789")}', b'89', Content_Range='8-9').expect(201)
assert call('GET', f'/v2/app/blobs/{digest(b"0123456789")}').expect(200).body == b'0123456789'

# A stream that is cut off goes on where it was cut.
path = begin()
host, port = os.environ['REGISTRY'].split(':')
with socket.create_connection((host, int(port))) as cut:
    head = f'PATCH {path} HTTP/1.1\r\nhost: x\r\nauthorization: {basic(os.environ["IMAGES"])}\r\ncontent-length: 100\r\n\r\n'
    cut.sendall(head.encode() + b'a' * 40)
    cut.shutdown(socket.SHUT_WR)
    while cut.recv(1000):
        pass
assert call('GET', path).expect(204).headers['range'] == '0-39'
call('PATCH', path, b'b' * 60, Content_Range='40-99').expect(202)
call('PUT', f'{path}?digest={digest(b"a" * 40 + b"b" * 60)}').expect(201)

# A blob that no manifest names may be deleted.
call('DELETE', f'/v2/app/blobs/{digest(small)}').expect(202)
call('DELETE', f'/v2/app/blobs/{digest(small)}').refused(404, 'BLOB_UNKNOWN')
begin()
