"""The command's psycopg: what stands in while it is imported, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from migrator.cli import process
from migrator.postgres import driver


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_psycopg_is_imported_without_asyncio_and_works() -> None:
    run(
        "import sys\n"
        "from migrator.postgres import driver\n"
        "driver.load()\n"
        "assert not {'asyncio', 'ssl', 'typing_extensions', 'importlib.metadata', 'ctypes.util', 'subprocess'} & set(sys.modules)\n"
        "import psycopg\n"
        "try:\n"
        "    psycopg.connect('host=127.0.0.1 port=1 dbname=x')\n"
        "except psycopg.OperationalError as error:\n"
        "    assert 'refused' in str(error)\n"
        "else:\n"
        "    raise AssertionError('nobody listens there')\n"
    )


def test_whoever_imports_what_was_stood_in_for_gets_the_real_thing() -> None:
    run(
        "from migrator.postgres import driver\n"
        "driver.load()\n"
        "import asyncio, ctypes, importlib.metadata, ssl, typing_extensions, psycopg, psycopg_binary\n"
        "assert ctypes.util.find_library is not None\n"
        "import ctypes.util\n"
        "assert asyncio.run(asyncio.sleep(0, 'slept')) == 'slept'\n"
        "assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED\n"
        "assert typing_extensions.TypeVar('T', default=int).__default__ is int\n"
        "assert importlib.metadata.version('psycopg') == psycopg.__version__\n"
        "assert importlib.metadata.version('psycopg-binary') == psycopg_binary.__version__\n"
        "assert ctypes.util.__spec__.origin.endswith('util.py')\n"
    )


def test_what_does_not_work_says_so() -> None:
    run(
        "from migrator.postgres import driver\n"
        "driver.load()\n"
        "import asyncio, psycopg, socket\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "try:\n"
        "    asyncio.run(psycopg.AsyncConnection.connect(f'host=127.0.0.1 port={silent.getsockname()[1]} dbname=x'))\n"
        "except RuntimeError as error:\n"
        "    assert 'without its asyncio side' in str(error)\n"
        "else:\n"
        "    raise AssertionError('connected')\n"
    )


def test_what_is_imported_already_is_left_alone_and_another_thread_imports_plainly() -> None:
    run(
        "import asyncio\n"
        "from migrator.postgres import driver\n"
        "driver.load()\n"
        "import psycopg.waiting\n"
        "assert psycopg.waiting.Future is asyncio.Future\n"
    )
    run(
        "import sys, threading\n"
        "from migrator.postgres import driver\n"
        "thread = threading.Thread(target=driver.load)\n"
        "thread.start(); thread.join()\n"
        "assert 'psycopg' not in sys.modules\n"
    )


def test_a_name_that_a_stand_in_lacks_is_the_real_modules() -> None:
    assert driver._StandIn("asyncio", {}).Event is asyncio.Event


def test_a_program_that_calls_the_command_keeps_its_psycopg() -> None:
    run(
        "import sys\n"
        "from migrator import cli\n"
        "cli.main(['-env', 'none', 'postgres', 'postgres://u:p@127.0.0.1:1/x', 'version'])\n"
        "assert {'psycopg', 'asyncio'} <= set(sys.modules)\n"
    )
    assert not process.is_alone()
