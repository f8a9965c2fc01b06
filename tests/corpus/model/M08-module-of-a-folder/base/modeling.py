# A trap under the name that our own checkpoints give to a module: whoever runs it is found out by the folder it makes.
import os

os.mkdir("touched")
